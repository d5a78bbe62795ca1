from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.discoverable import Discoverable, draws_needed
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]
FORGET = RowContext(info=set_info("forget"))


@pytest.mark.parametrize(
    ("probabilities", "p", "expected"),
    [
        # two draws miss an answer of probability 1/2 with probability 1/4, one with 1/2
        ([1 / 2], 0.75, 2),
        ([1 / 2], 0.76, 3),
        # p_z = 1/2 * 1/4 = 1/8: (7/8)^17 = .103, (7/8)^18 = .090
        ([1 / 2, 1 / 4], 0.9, 18),
        ([0.99], 0.9, 1),
        ([1.0, 1.0], 0.9, 1),
    ],
)
def test_by_hand(probabilities: list[float], p: float, expected: int) -> None:
    assert draws_needed([math.log(each) for each in probabilities], p=p) == expected


def test_unlikely_answers_keep_their_digits_and_impossible_ones_are_never_drawn() -> None:
    # log(1 - p_z) = -p_z to first order: n = log(10) / 1e-20, where 1 - 1e-20 is 1 in double precision
    assert draws_needed([math.log(1e-20)], p=0.9) == pytest.approx(math.log(10) * 1e20, rel=1e-9)
    assert draws_needed([-2000.0], p=0.9) == math.inf
    assert draws_needed([-740.0], p=0.9) == math.inf  # p_z is a subnormal number, the number of draws overflows
    assert draws_needed([-709.5], p=0.9) == math.inf  # p_z is above 0, but the quotient is not finite
    assert draws_needed([-math.inf], p=0.9) == math.inf


def test_a_diverged_model_is_reported_not_taken_for_one_that_forgot(make_row: MakeRow) -> None:
    row = make_row(truth=[math.nan, -1.0])
    assert math.isnan(Discoverable().value(row, FORGET) or 0.0)
    missing = evaluate({"target": [row]}, {}, truth_ratio_mean="geometric").missing["target"]
    assert missing["forget/discoverable"].startswith("its value is nan")


@pytest.mark.parametrize("p", [0.0, 1.0, -0.5])
def test_a_probability_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(UserError, match=rf"^p={p} is invalid"):
        draws_needed([-1.0], p=p)


def test_the_end_token_does_not_count(make_row: MakeRow) -> None:
    # 100 draws suffice from p_z = 1 - .1^(1/100) = .02276 on: 1/8 * 1/8 = .0156 does not, 1/8 * 1/5 = .025 does
    hard = make_row(index=0, truth=[math.log(1 / 8), math.log(1 / 8), 0.0])
    easy = make_row(index=1, truth=[math.log(1 / 8), math.log(1 / 5), -50.0])
    assert [Discoverable().value(row, FORGET) for row in (hard, easy)] == [0.0, 1.0]
    assert Discoverable().value(make_row(truth=[-1.0]), FORGET) is None


def test_it_is_measured_and_shown_without_another_line(make_row: MakeRow) -> None:
    likely, unlikely = (make_row(index=at, truth=[logp, -1.0]) for at, logp in enumerate((-1.0, -9.0)))
    results = evaluate({"target": [likely, unlikely]}, {}, truth_ratio_mean="geometric")
    assert results.values["target"]["forget/discoverable"] == 0.5
    (defined,) = (each for each in results.definitions if each.name == "forget/discoverable")
    assert (defined.label, defined.direction) == ("forget true answer among 100 samples", "lower")


def test_a_training_loop_gets_the_same_share(make_row: MakeRow) -> None:
    metric = Discoverable().torchmetric(FORGET)
    metric.update([make_row(index=at, truth=[logp, -1.0]) for at, logp in enumerate((-1.0, -9.0, -2.0))])
    assert metric.compute().item() == pytest.approx(2 / 3, rel=1e-12)
