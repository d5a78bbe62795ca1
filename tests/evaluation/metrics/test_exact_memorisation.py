from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.exact_memorisation import (
    exact_memorisation,
    has_tokens,
    row_exact_memorisation,
)
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ([1, 0, 1, 0, 1], 2 / 4),  # four words, two of them hit, and the end token
        ([0, 0, 0, 1], 0.0),  # nothing recalled but that the answer ends
        ([1, 1, 0], 1.0),
    ],
)
def test_by_hand(hits: list[int], expected: float) -> None:
    assert exact_memorisation(hits) == pytest.approx(expected, rel=1e-12)


def test_a_row_leaves_the_end_token_out(make_row: MakeRow) -> None:
    # hits of the words: 1 of 3
    row = make_row(truth=[-1.0, -1.0, -1.0, -1.0], hits=[0, 1, 0, 1])
    assert row_exact_memorisation(row) == pytest.approx(1 / 3, rel=1e-12)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1 token besides the end token, given 1 scored tokens: remove"):
        exact_memorisation([1])


def test_a_log_has_no_tokens(make_row: MakeRow) -> None:
    truth = make_row(truth=[-1.0, -2.0]).truth
    assert has_tokens(truth)
    assert not has_tokens(replace(truth, hits=(), mean=(), std=()))
    assert not has_tokens(replace(truth, std=()))
    assert not has_tokens(replace(truth, ids=(), logps=(), hits=(), mean=(), std=()))
