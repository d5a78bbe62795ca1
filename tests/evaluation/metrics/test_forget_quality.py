from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.forget_quality import check_same_questions, forget_quality
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_small_sample_by_hand() -> None:
    # sorted: 1 2 (left) 2.5 (right) 3 (left) 4 5 (right). After 2 the left distribution is 2/3, the right 0: D = 2/3.
    # Of the C(6,3) = 20 orders of three and three, 8 reach |F - G| >= 2/3 (2 with 1, 6 with 2/3) by the reflection
    # principle 2 (C(6,1) - C(6,-1)) = 12: p = 12/20.
    result = forget_quality([1.0, 2.0, 3.0], [2.5, 4.0, 5.0])
    assert result.distance == pytest.approx(2 / 3)
    assert result.p == pytest.approx(12 / 20)
    assert result.log10_p == pytest.approx(math.log10(12 / 20))
    assert result.rows == 3


def test_a_model_against_itself() -> None:
    result = forget_quality([0.3, -1.0, 2.0], [0.3, -1.0, 2.0])
    assert (result.distance, result.p, result.log10_p, result.rows) == (0.0, 1.0, 0.0, 3)


@pytest.mark.parametrize(("rows", "floor"), [(40, 1.860e-23), (200, 1.943e-119), (400, 1.064e-239)])
def test_floor_when_all_are_separated(rows: int, floor: float) -> None:
    # only 2 of the C(2n, n) orders are fully separated: p = 2 / C(2n, n)
    result = forget_quality([float(i) for i in range(rows)], [float(i + rows) for i in range(rows)])
    assert result.distance == 1.0
    assert result.p == pytest.approx(floor, rel=1e-3, abs=0)
    assert result.log10_p == pytest.approx(math.log10(2) - math.log10(math.comb(2 * rows, rows)), rel=1e-9)


def test_log10_stays_finite_where_p_does_not_fit_a_double() -> None:
    rows = 600
    result = forget_quality([float(i) for i in range(rows)], [float(i + rows) for i in range(rows)])
    assert result.p == 0.0
    # 2 / C(1200, 600) is about 10^-359
    assert result.log10_p == pytest.approx(math.log10(2) - math.log10(math.comb(1200, 600)), rel=1e-12)
    assert -360 < result.log10_p < -358


def test_leading_term_agrees_with_the_exact_p_where_both_exist() -> None:
    rows, shift = 300, 150
    # the right sample starts after `shift` of the left ones: D = 150/300
    result = forget_quality([float(i) for i in range(rows)], [i + shift - 0.5 for i in range(rows)])
    assert result.distance == 0.5
    leading = math.log10(2 * math.comb(600, 150)) - math.log10(math.comb(600, 300))
    assert result.log10_p == pytest.approx(leading, rel=1e-9)


def test_lengths_must_agree() -> None:
    with pytest.raises(UserError, match="got 2 truth ratios of the evaluated model and 1 of the retain model"):
        forget_quality([0.0, 1.0], [0.0])
    with pytest.raises(UserError, match="expected the same number, at least 1"):
        forget_quality([], [])


def test_not_a_number_is_refused() -> None:
    with pytest.raises(UserError, match="0 truth ratios of the evaluated model and 1 of the retain model are NaN"):
        forget_quality([0.0, 1.0], [0.0, math.nan])


def test_same_questions(make_row: MakeRow) -> None:
    rows = [make_row(index=0), make_row(index=1)]
    check_same_questions(rows, list(rows), names=("unlearned", "retain"))
    with pytest.raises(
        UserError, match=r"the unlearned model has 2 questions, the retain model has 1; .*same dataset and"
    ):
        check_same_questions(rows, rows[:1], names=("unlearned", "retain"))
    with pytest.raises(
        UserError, match="question 0 differs: the target model has fact 'forget-0', the retain model has f"
    ):
        check_same_questions(rows, rows[::-1], names=("target", "retain"))
    other = [rows[0], make_row(index=1, answer="Rome")]
    with pytest.raises(UserError, match=r"question 1 differs: .*another question or true answer"):
        check_same_questions(rows, other, names=("target", "retain"))
