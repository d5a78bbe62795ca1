"""Logits of a base model minus those of an assistant: worked values, the filter, and one model in both uses."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.logits import ENDS, PROMPTS, small
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.generation.engine import continue_greedily
from meow_lightning.generation.reference import reference_continuation
from meow_lightning.models.logit_difference import LogitDifference, logit_difference
from meow_lightning.models.logprobs import scored_logits

BOTH = pytest.mark.parametrize("outside", ["neg_inf", "keep_base"])
BASE, JUNK = torch.tensor([10.0, 9.0, 0.0]), torch.tensor([20.0, 0.0, -20.0])


@BOTH
def test_the_assistants_logits_are_subtracted(outside) -> None:
    base, assistant = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])
    logits = logit_difference(base, assistant, alpha=0.75, rho=0.01, outside=outside)
    torch.testing.assert_close(logits, torch.tensor([0.5, 1.0, 0.0]))
    assert (int(base.argmax()), int(logits.argmax())) == (0, 1)
    torch.testing.assert_close(logits.softmax(-1), torch.tensor([0.3072, 0.5065, 0.1863]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("base", [[2.0, 1.0, 0.0], [10.0, 9.0, 0.0]])  # no token is implausible, one is
def test_a_constant_assistant_changes_no_probability(base: list[float]) -> None:
    logits, constant = torch.tensor(base), torch.full((3,), 7.0)
    found = logit_difference(logits, constant, alpha=0.75, rho=0.01, outside="keep_base")
    torch.testing.assert_close(found.softmax(-1), logits.softmax(-1))


def test_a_token_that_the_base_finds_implausible_is_not_emitted_though_the_vocabulary_is_tiny() -> None:
    # Published code keeps the int(rho V) best tokens in any case: with V < 1 / rho these are all.
    unfiltered = logit_difference(BASE, JUNK, alpha=0.75, rho=0.0, outside="neg_inf")
    assert unfiltered.tolist() == [-5.0, 9.0, 15.0]
    assert 0.0 < 10 + math.log(0.01) == pytest.approx(5.394830)
    filtered = logit_difference(BASE, JUNK, alpha=0.75, rho=0.01, outside="neg_inf")
    assert filtered.tolist() == [-5.0, 9.0, -math.inf]


@BOTH
def test_a_token_above_one_over_one_plus_rho_stays_whatever_the_assistant_knows(outside) -> None:
    certain, assistant = torch.tensor([0.991, 0.0045, 0.0045]).log(), torch.tensor([50.0, 0.0, 0.0])
    assert int(logit_difference(certain, assistant, alpha=0.75, rho=0.01, outside=outside).argmax()) == 0
    unsure = torch.tensor([0.98, 0.01, 0.01]).log()
    assert int(logit_difference(unsure, assistant, alpha=0.75, rho=0.01, outside=outside).argmax()) != 0


def test_likelihoods_of_implausible_tokens_are_those_of_the_base() -> None:
    logits = logit_difference(BASE, JUNK, alpha=0.75, rho=0.01, outside="keep_base")
    assert logits[:2].tolist() == [-5.0, 9.0]
    torch.testing.assert_close(logits.softmax(-1)[2], BASE.softmax(-1)[2])
    shifted = logit_difference(BASE, JUNK + 100, alpha=0.75, rho=0.01, outside="keep_base")
    torch.testing.assert_close(shifted.log_softmax(-1), logits.log_softmax(-1))


rows = st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5)


@given(base=rows, assistant=rows, rho=st.sampled_from([1e-3, 0.01, 0.5, 1.0]))
def test_both_have_the_same_best_token_and_the_same_odds_between_plausible_ones(base, assistant, rho: float) -> None:
    z_base, z_assistant = torch.tensor(base, dtype=torch.float64), torch.tensor(assistant, dtype=torch.float64)
    generated, scored = (
        logit_difference(z_base, z_assistant, alpha=0.75, rho=rho, outside=outside)
        for outside in ("neg_inf", "keep_base")
    )
    plausible = generated.isfinite()
    assert plausible[z_base.argmax()]
    assert scored[generated.argmax()] == scored.max()
    assert torch.equal(generated[plausible], scored[plausible])
    torch.testing.assert_close(scored.softmax(-1)[~plausible], z_base.softmax(-1)[~plausible])


@BOTH
def test_sixteen_bit_logits_are_subtracted_in_fp32(outside) -> None:
    base, assistant = torch.tensor([100.0, 99.5]).bfloat16(), torch.tensor([1.0, 0.0]).bfloat16()
    found = logit_difference(base, assistant, alpha=0.75, rho=0.01, outside=outside)
    assert found.dtype == torch.float32
    assert found.tolist() == [99.25, 99.5]


@pytest.fixture
def model() -> LogitDifference:
    """Untrained models have flat logits: scaled, they have implausible tokens."""
    base, assistant = small(0, 2), small(1, 1)
    with torch.no_grad():
        for each in (base, assistant):
            each.lm_head.weight *= 40
    return LogitDifference(base, assistant, alpha=0.75, rho=0.5, outside="keep_base").eval()


def by_hand(model: LogitDifference, prompt: tuple[int, ...], budget: int) -> list[int]:
    """Greedy tokens, one text at a time, with nothing but calls of the two models."""
    ids, said = list(prompt), []
    with torch.no_grad():
        while len(said) < budget and not (said and said[-1] in ENDS):
            base, assistant = (each(input_ids=torch.tensor([ids])).logits[0, -1] for each in model.models)
            plausible = base >= base.max() + math.log(0.5)
            said.append(int((base - 0.75 * assistant).masked_fill(~plausible, -math.inf).argmax()))
            ids.append(said[-1])
    return said


def test_padded_batches_with_a_cache_per_model_say_what_one_text_at_a_time_says(model) -> None:
    expected = [by_hand(model, prompt, 9) for prompt in PROMPTS]
    found = dict(
        continue_greedily(
            model, PROMPTS, budgets=[9] * len(PROMPTS), end_ids=ENDS, pad_id=1, slots=3, progress=None
        )
    )  # fmt: skip
    assert [[*found[i].ids, *([] if found[i].end is None else [found[i].end])] for i in range(len(PROMPTS))] == expected
    unfiltered = LogitDifference(*model.models, alpha=0.75, rho=0.0, outside="keep_base").eval()
    assert [by_hand(model, prompt, 1)[0] for prompt in PROMPTS] != [
        reference_continuation(unfiltered, prompt, budget=1, end_ids=frozenset(), pad_id=1).ids[0] for prompt in PROMPTS
    ]


def test_generation_excludes_what_likelihoods_keep(model, to_rows) -> None:
    ids = torch.tensor([PROMPTS[0]])
    with torch.no_grad():
        scored, generated = model(input_ids=ids).logits, model.decoder()(input_ids=ids).logits
    assert scored.isfinite().all()
    assert generated.isinf().any()
    assert torch.equal(scored.argmax(-1), generated.argmax(-1))
    assert not model.decoder().training


def test_padding_changes_no_likelihood(model, to_rows) -> None:
    pairs = [([5, 6, 7, 8], 2), ([9, 10, 11], 1)]
    with torch.no_grad():
        narrow, wide = (scored_logits(model, to_rows(pairs, width=width, pad_id=1))[0] for width in (4, 11))
    torch.testing.assert_close(wide, narrow)
