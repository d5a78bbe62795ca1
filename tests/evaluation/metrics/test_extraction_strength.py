from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.exact_memorisation import exact_memorisation
from meow_lightning.evaluation.metrics.extraction_strength import ExtractionStrength, extraction_strength
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        # words 1 0 1 1: two must be shown, k = 2 of 4
        ([1, 0, 1, 1, 1], 2 / 4),
        # all words recalled, nothing needs to be shown
        ([1, 1, 1, 1], 1.0),
        # the last word is missed: all is shown, however much is hit before it
        ([1, 1, 0, 1], 0.0),
        # the published code says 1/3 here: it never tries k = T
        ([0, 0, 0, 0], 0.0),
        # the end token is missed: the words alone are recalled in full
        ([1, 1, 0], 1.0),
    ],
)
def test_by_hand(hits: list[int], expected: float) -> None:
    assert extraction_strength(hits) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_smallest_k_and_never_above_exact_memorisation() -> None:
    for hits in product((0, 1), repeat=6):
        k = next(k for k in range(7) if all(hits[k:]))
        strength = extraction_strength([*hits, 0])
        assert strength == pytest.approx(1 - k / 6, rel=1e-12)
        assert strength <= exact_memorisation([*hits, 0])


def test_a_row_leaves_the_end_token_out(make_row: MakeRow) -> None:
    # words 0 0 1 1, end missed: k = 2 of 4
    row = make_row(truth=[-1.0] * 5, hits=[0, 0, 1, 1, 0])
    assert ExtractionStrength().value(row, RowContext(info=set_info("forget"))) == 0.5


def test_an_empty_answer_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1 token besides the end token, given 1 scored tokens"):
        extraction_strength([0])
