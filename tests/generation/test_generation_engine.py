from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from helpers.models import tiny_llama, tiny_sizes
from transformers import MistralConfig, MistralForCausalLM, PhiConfig, PhiForCausalLM

from meow_lightning.errors import UserError
from meow_lightning.generation.engine import Continuation, continue_greedily

END_IDS = frozenset({3, 11, 40, 57})
PAD_ID = 0
BUDGET = 24
# The weights are large enough that what comes next depends on the whole prompt.
SIZES = tiny_sizes(
    num_attention_heads=2, vocab_size=64, max_position_embeddings=128, initializer_range=0.3, bos_token_id=1,
    eos_token_id=2, pad_token_id=PAD_ID,
)  # fmt: skip
EAGER: dict[str, Any] = {"attn_implementation": "eager"}
FAMILIES = {
    "llama": lambda: tiny_llama(num_key_value_heads=1, **SIZES),
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),
    "sliding": lambda: MistralForCausalLM(MistralConfig(num_key_value_heads=1, sliding_window=6, **SIZES, **EAGER)),
}


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 30, (60,), generator=generator).tolist()
    return [torch.randint(1, 64, (length,), generator=generator).tolist() for length in lengths]


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> tuple[Any, list[Continuation]]:
    """A model and what plain generation makes of every prompt, one at a time."""
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = FAMILIES[request.param]().float().eval()
    expected = []
    for prompt in prompts():
        ids = torch.tensor([prompt])
        new = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=BUDGET,
            eos_token_id=sorted(END_IDS),
            pad_token_id=PAD_ID,
        )[0, len(prompt) :].tolist()
        ended = new[-1] in END_IDS
        expected.append(Continuation(tuple(new[:-1] if ended else new), new[-1] if ended else None))
    return model, expected


def run(model: Any, asked: list[list[int]], **changes: Any) -> dict[int, Continuation]:
    settings: dict[str, Any] = {"budgets": [BUDGET] * len(asked), "end_ids": END_IDS, "pad_id": PAD_ID, "slots": 8}
    pairs = list(continue_greedily(model, asked, **{**settings, "progress": None, **changes}))
    assert sorted(index for index, _ in pairs) == list(range(len(asked)))
    return dict(pairs)


@pytest.mark.parametrize("slots", [1, 7, 16, 64])
def test_same_text_as_plain_generation(case: tuple[Any, list[Continuation]], slots: int) -> None:
    model, expected = case
    stops = [each.stop for each in expected]
    assert stops.count("end") >= 10  # or the test would not see rows leave the batch
    assert stops.count("length") >= 3
    found = run(model, prompts(), slots=slots)
    assert [found[index] for index in range(60)] == expected


def test_budgets_hold(case: tuple[Any, list[Continuation]]) -> None:
    model, expected = case
    budgets = [index % 5 for index in range(60)]
    found = run(model, prompts(), budgets=budgets)
    for index, (budget, whole) in enumerate(zip(budgets, expected, strict=True)):
        tokens = [*whole.ids, *([] if whole.end is None else [whole.end])][:budget]
        ended = bool(tokens) and tokens[-1] in END_IDS
        assert found[index].ids == tuple(tokens[:-1] if ended else tokens)
        assert found[index].stop == ("end" if ended else "length")


def test_without_end_ids_everything_runs_to_its_budget(case: tuple[Any, list[Continuation]]) -> None:
    model, _ = case
    found = run(model, prompts()[:10], budgets=[9] * 10, end_ids=frozenset())
    assert {(len(each.ids), each.stop) for each in found.values()} == {(9, "length")}


class Counting(torch.nn.Module):
    """Says last token + 1, always; counts how many rows it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []

    def forward(self, input_ids: torch.Tensor, **rest: Any) -> Any:
        self.widths.append(len(input_ids))
        logits = torch.nn.functional.one_hot((input_ids[:, -1:] + 1) % 10, 10).float()
        return type("Output", (), {"logits": logits})


def test_equal_prompts_are_continued_once_with_their_own_budgets() -> None:
    model = Counting().eval()
    found = run(model, [[1], [1], [5], [1]], budgets=[2, 6, 3, 8], end_ids=frozenset({8}))
    # 1 is continued by 2 3 4 5 6 7 and the end 8, the seventh new token
    assert found[0] == Continuation((2, 3), None)
    assert found[1] == Continuation((2, 3, 4, 5, 6, 7), None)
    assert found[3] == Continuation((2, 3, 4, 5, 6, 7), 8)
    assert found[2] == Continuation((6, 7), 8)
    assert model.widths == [2, 2, 2, 1, 1, 1, 1]


def test_results_come_as_rows_finish_and_progress_counts_them() -> None:
    model = Counting().eval()
    seen: list[int] = []
    pairs = continue_greedily(
        model,
        [[1], [7], [7]],
        budgets=[7, 7, 7],
        end_ids=frozenset({8}),
        pad_id=0,
        slots=2,
        progress=seen.append,
    )
    assert [index for index, _ in itertools.islice(pairs, 2)] == [1, 2]
    assert len(model.widths) == 1
    assert not torch.is_inference_mode_enabled()  # the caller may train between two results
    assert [index for index, _ in pairs] == [0]
    assert seen == [2, 3]


def test_no_budget_needs_no_model() -> None:
    model = Counting().eval()
    assert run(model, [[1]], budgets=[0]) == {0: Continuation((), None)}
    assert run(model, []) == {}
    assert model.widths == []


def test_refusals() -> None:
    model = Counting().eval()
    with pytest.raises(UserError, match=r"slots=0 is invalid: expected an integer of at least 1"):
        run(model, [[1]], slots=0)
    with pytest.raises(ValueError, match="prompt 1 has 0 tokens"):
        run(model, [[1], []])
    with pytest.raises(ValueError, match="2 prompts and 1 budgets"):
        run(model, [[1], [2]], budgets=[3])
    with pytest.raises(ValueError, match=r"call model\.eval"):
        run(Counting(), [[1]])
