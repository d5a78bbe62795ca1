from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.assistant import Difference
from helpers.logits import ENDS, PROMPTS, small

from meow_lightning.evaluation.gradient import gradient_norms
from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.capabilities import (
    batch_length_limit,
    dtype_of,
    supports_padding,
    supports_prefix_sharing,
)
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.generation.packed import supports_packing
from meow_lightning.generation.reference import reference_continuation
from meow_lightning.models.logits_model import LogitsModel
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Encoded


@pytest.fixture
def model() -> Difference:
    return Difference(small(0, 2), small(1, 1), weight=0.75).eval()


def by_hand(model: Difference, prompt: tuple[int, ...], budget: int) -> list[int]:
    """Greedy tokens of the difference, one text at a time, with nothing but calls of the two models."""
    ids, said = list(prompt), []
    with torch.no_grad():
        while len(said) < budget:
            big, other = (each(input_ids=torch.tensor([ids])).logits[0, -1] for each in model.models)
            said.append(int((big - 0.75 * other).argmax()))
            ids.append(said[-1])
            if said[-1] in ENDS:
                break
    return said


def continued(model: Any, budgets: list[int], *, slots: int = 3) -> list[list[int]]:
    found = dict(continue_greedily(model, PROMPTS, budgets=budgets, end_ids=ENDS, pad_id=1, slots=slots, progress=None))
    return [[*found[i].ids, *([] if found[i].end is None else [found[i].end])] for i in range(len(PROMPTS))]


def test_the_logits_are_those_of_the_two_models(model) -> None:
    ids = torch.tensor([[5, 6, 7]])
    big, other = (each(input_ids=ids).logits for each in model.models)
    torch.testing.assert_close(model(input_ids=ids).logits, big - 0.75 * other)
    with pytest.raises(NotImplementedError, match=r"^LogitsModel defines no combine$"):
        LogitsModel(*model.models)(input_ids=ids)


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_the_engine_says_what_one_text_at_a_time_says(model, slots: int) -> None:
    budgets = [12, 9, 20, 1, 7, 20]
    expected = [by_hand(model, prompt, budget) for prompt, budget in zip(PROMPTS, budgets, strict=True)]
    assert continued(model, budgets, slots=slots) == expected
    assert len({*map(tuple, expected)}) > 3


def test_the_reference_says_the_same(model) -> None:
    for prompt in PROMPTS:
        said = reference_continuation(model, prompt, budget=9, end_ids=ENDS, pad_id=1)
        assert [*said.ids, *([] if said.end is None else [said.end])] == by_hand(model, prompt, 9)


def test_fast_paths_of_known_architectures_are_off_and_padded_batches_on(model) -> None:
    assert dtype_of(model) is None
    assert dtype_of(model.models[0]) == torch.float32
    assert not supports_packing(model, PROMPTS[0])
    assert supports_prefix_sharing(model.models[0], PROMPTS[0], pad_id=1, dtype=torch.float32)
    assert supports_padding(model, PROMPTS[0], pad_id=1)
    assert (model.device.type, model.config) == ("cpu", model.models[0].config)
    assert model.num_parameters() == sum(each.num_parameters() for each in model.models)


class Forgetful(Difference):
    """A model that drops its cache, so that it takes a new token for a whole text."""

    def forward(self, **inputs: Any) -> Any:
        inputs["past_key_values"] = None
        mask = inputs.get("attention_mask")
        if mask is not None:
            inputs["attention_mask"] = mask[:, -inputs["input_ids"].shape[1] :]
        return super().forward(**inputs)


def test_a_model_that_mishandles_its_cache_is_asked_without_one(model) -> None:
    broken = Forgetful(*model.models, weight=0.75).eval()
    assert not supports_padding(broken, PROMPTS[0], pad_id=1)
    assert continued(broken, [8] * len(PROMPTS)) == [by_hand(model, prompt, 8) for prompt in PROMPTS]


def test_likelihoods_and_gradients_are_those_of_the_difference(model, to_rows) -> None:
    rows = [Encoded((*prompt, 7, 8, 0), len(prompt)) for prompt in PROMPTS]
    found = dict(loglikelihoods(model, rows, pad_id=1, batch=4, progress=None))
    for i, row in enumerate(rows):
        with torch.no_grad():
            logps = scored_logits(model, to_rows([(list(row.ids), row.prompt)], pad_id=1))[0].log_softmax(-1)
        expected = [logps[place, token].item() for place, token in enumerate(row.ids[row.prompt :])]
        assert found[i].logps == pytest.approx(expected, abs=1e-5)
    norms = dict(gradient_norms(model, rows[:2], pad_id=1, mask_pad_ids=False))
    assert all(norm > 0 for norm in norms.values())


def test_generate_stops_each_row_at_its_own_end(model) -> None:
    prompts = [PROMPTS[0], PROMPTS[1]]
    width = max(map(len, prompts))
    ids = torch.tensor([[1] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.generation_config.eos_token_id = sorted(ENDS)
    said = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=9, pad_token_id=1)[:, width:]
    for row, prompt in zip(said.tolist(), prompts, strict=True):
        expected = by_hand(model, prompt, 9)
        assert row == [*expected, *[1] * (said.shape[1] - len(expected))]


def test_the_strictest_length_limit_counts() -> None:
    long, plain = small(0, 1), small(1, 1)
    long.config.rope_parameters = {
        "rope_type": "longrope", "original_max_position_embeddings": 16,
    }  # fmt: skip
    assert batch_length_limit(Difference(plain, long, weight=1.0)) == 16
    assert batch_length_limit(Difference(plain, plain, weight=1.0)) is None
