from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from meow_lightning.evaluation.metrics.exact_memorisation import (
    exact_memorisation,
    has_tokens,
    row_exact_memorisation,
)
from meow_lightning.types import AnswerRow, UserError

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("hits", "words_only", "with_end"),
    [
        # four words, two of them hit, and the end token: 2/4 and 3/5
        ([1, 0, 1, 0, 1], 2 / 4, 3 / 5),
        # nothing recalled but that the answer ends: 0 and 1/4
        ([0, 0, 0, 1], 0.0, 1 / 4),
        ([1, 1, 0], 1.0, 2 / 3),
    ],
)
def test_by_hand(hits: list[int], words_only: float, with_end: float) -> None:
    assert exact_memorisation(hits, end_token=False) == pytest.approx(words_only, rel=1e-12)
    assert exact_memorisation(hits, end_token=True) == pytest.approx(with_end, rel=1e-12)


def test_a_row_leaves_the_end_token_out(make_row: MakeRow) -> None:
    # hits of the words: 1 of 3
    row = make_row(truth=[-1.0, -1.0, -1.0, -1.0], hits=[0, 1, 0, 1])
    assert row_exact_memorisation(row) == pytest.approx(1 / 3, rel=1e-12)


def test_an_empty_answer_is_refused() -> None:
    assert exact_memorisation([1], end_token=True) == 1.0
    with pytest.raises(UserError, match="an answer with 1 scored tokens was given, of which 0 count; at least 1 must"):
        exact_memorisation([1], end_token=False)


def test_a_log_has_no_tokens(make_row: MakeRow) -> None:
    truth = make_row(truth=[-1.0, -2.0]).truth
    assert has_tokens(truth)
    assert not has_tokens(replace(truth, hits=(), mean=(), std=()))
    assert not has_tokens(replace(truth, std=()))
    assert not has_tokens(replace(truth, ids=(), logps=(), hits=(), mean=(), std=()))
