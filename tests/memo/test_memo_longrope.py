"""Models whose rotary frequencies follow the longest row of a batch are asked as if each prompt were alone."""

from __future__ import annotations

import random

import pytest
import torch
from helpers.models import tiny_llama, tiny_sizes
from transformers import AutoModelForCausalLM, Phi3Config

from meow_lightning.evaluation.loglikelihood import loglikelihoods
from meow_lightning.generation.capabilities import batch_length_limit, dtype_of, split_batches
from meow_lightning.generation.engine import continue_greedily
from meow_lightning.generation.reference import reference_continuation
from meow_lightning.generation.sampling import sample_continuations
from meow_lightning.types import Encoded

BORDER = 24
SIZES = tiny_sizes(
    intermediate_size=48, num_key_value_heads=2, vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    initializer_range=0.3,
)  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 3.0, 9.0, 30.0],
    "original_max_position_embeddings": BORDER,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


def made():
    torch.manual_seed(0)
    config = Phi3Config(
        **SIZES, max_position_embeddings=96, original_max_position_embeddings=BORDER, rope_parameters=LONGROPE
    )
    return AutoModelForCausalLM.from_config(config).eval()


def prompts() -> list[list[int]]:
    """Of every length around the border: short for good, long from the first token on, and crossing it."""
    draw = torch.Generator().manual_seed(1)
    return [
        torch.randint(3, 64, (size,), generator=draw).tolist() for size in (4, 5, 9, 13, 16, 20, 23, 24, 25, 30, 40)
    ]


def test_every_prompt_is_continued_as_if_alone() -> None:
    model = made()
    settings = {"end_ids": frozenset({2}), "pad_id": 0}
    alone = [reference_continuation(made(), prompt, budget=10, **settings) for prompt in prompts()]
    found = dict(continue_greedily(model, prompts(), budgets=[10] * len(prompts()), slots=8, progress=None, **settings))
    assert [found[place] for place in range(len(alone))] == alone


def test_every_row_is_scored_as_if_alone() -> None:
    rows = [Encoded(tuple(prompt), 2) for prompt in prompts()]
    found = dict(loglikelihoods(made(), rows, pad_id=0, batch=8, progress=None))
    for place, row in enumerate(rows):
        ((_, alone),) = loglikelihoods(made(), [row], pad_id=0, batch=1, progress=None)
        assert found[place].logps == pytest.approx(alone.logps, abs=1e-5)


def test_neighbours_beyond_the_border_would_change_a_short_row() -> None:
    """What the rest of this file guards against is there: in one padded batch the short row reads otherwise."""
    model, (short, *_, long) = made(), prompts()
    ids = torch.tensor([short + [0] * (len(long) - len(short)), long])
    seen = (ids != 0).long()
    with torch.no_grad():
        beside = model(input_ids=ids, attention_mask=seen).logits[0, len(short) - 1]
        alone = model(input_ids=torch.tensor([short])).logits[0, -1]
    assert (beside - alone).abs().max() > 1e-3


def test_a_border_is_that_of_longrope_alone() -> None:
    assert batch_length_limit(made()) == BORDER
    assert dtype_of(made()) is None
    for rope in ({"rope_type": "default", "rope_theta": 10000.0}, DYNAMIC):
        other = tiny_llama(**SIZES, max_position_embeddings=96, rope_parameters=rope)
        assert batch_length_limit(other) is None
        assert (dtype_of(other) is None) == (rope is DYNAMIC)
    assert batch_length_limit(object()) is None


def test_lots_hold_rows_within_the_border_together() -> None:
    lengths = [9, 3, 5, 7, 2]
    order = [0, 3, 2, 1, 4]
    assert list(split_batches(order, lengths=lengths, most=2, border=6)) == [[0], [3], [2, 1], [4]]
    assert list(split_batches(order, lengths=lengths, most=2, border=None)) == [[0, 3], [2, 1], [4]]
    assert list(split_batches([], lengths=[], most=2, border=6)) == []


def test_a_reply_is_that_of_the_prompt_alone_at_temperature_0() -> None:
    """What the batches of a local teacher rest on: within the border neighbours change nothing."""
    model, near = made(), [each for each in prompts() if len(each) + 8 <= BORDER]
    settings = {"budget": 8, "temperature": 0, "top_p": 1.0, "end_ids": frozenset({2}), "pad_id": 0}
    rng = [random.Random(0) for _ in near]
    together = sample_continuations(model, near, rng=rng, **settings)
    assert together == [sample_continuations(model, [each], rng=[random.Random(0)], **settings)[0] for each in near]
