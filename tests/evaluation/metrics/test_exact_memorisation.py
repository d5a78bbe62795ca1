from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.exact_memorisation import ExactMemorisation, exact_memorisation
from meow_lightning.evaluation.sets import set_info
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
    assert ExactMemorisation().value(row, RowContext(info=set_info("forget"))) == pytest.approx(1 / 3, rel=1e-12)


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1 token besides the end token, given 1 scored tokens: remove"):
        exact_memorisation([1])


def test_a_row_without_tokens_is_left_out_of_a_training_loop(make_row: MakeRow) -> None:
    metric = ExactMemorisation().torchmetric(RowContext(info=set_info("forget")))
    logged = make_row(index=2)
    # words 1 0 1 and 1 1: 2/3 and 1
    metric.update([
        make_row(index=0, truth=[-1.0] * 4, hits=[1, 0, 1, 1]),
        make_row(index=1, truth=[-1.0] * 3, hits=[1, 1, 1]),
        replace(logged, truth=replace(logged.truth, hits=(), mean=(), std=())),
    ])  # fmt: skip
    assert metric.compute().item() == pytest.approx(5 / 6, rel=1e-12)
    assert metric.count.item() == 2
