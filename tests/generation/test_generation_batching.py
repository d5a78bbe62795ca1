from __future__ import annotations

import pytest
import torch

from meow_lightning.generation.batching import choose


@pytest.mark.parametrize("size", [64, 100, 192])  # one block, no whole number of blocks, three blocks
def test_the_most_likely_token_and_whether_it_was_close(size: int) -> None:
    logits = torch.zeros(6, size)
    logits[0, 7] = 1.0
    logits[1, size - 1], logits[1, 3] = 5.0, 4.9998  # 2e-4 apart: far enough
    logits[2, size - 1], logits[2, 3] = 5.0, 4.99995  # 5e-5 apart, in another block
    logits[3, 8], logits[3, 9] = 5.0, 5.00005  # the same in one block
    logits[4, 20], logits[4, 60] = 2.0, 2.0  # equal: the first, as argmax has it
    logits[5, 4] = -1.0  # all others are equal
    tokens, close = choose(logits)
    assert tokens == [7, size - 1, size - 1, 9, 20, 0]
    assert close == [False, False, True, True, True, True]


def test_logits_that_are_not_numbers_count_as_close() -> None:
    logits = torch.zeros(1, 128)
    logits[0, 5] = float("nan")
    assert choose(logits)[1] == [True]


def test_half_the_width_knows_no_close_choices() -> None:
    logits = torch.zeros(2, 128, dtype=torch.bfloat16)
    logits[0, 9] = logits[0, 70] = 1.0
    assert choose(logits) == ([9, 0], [False, False])


@pytest.mark.parametrize("size", [2048, 1000])
def test_random_rows(size: int) -> None:
    logits = torch.randn(50, size, generator=torch.Generator().manual_seed(0))
    tokens, close = choose(logits)
    assert tokens == logits.argmax(-1).tolist()
    assert sum(close) <= 1
