from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Mean, MetricSettings, RowContext
from meow_lightning.evaluation.metrics.truth_ratio import (
    ForgetTruthRatio,
    TruthRatio,
    balance,
    log_truth_ratio,
    parse_mean,
    preference,
    row_log_truth_ratio,
)
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]

WRONG = [math.log(0.1), math.log(0.4)]


def test_geometric_mean() -> None:
    # sqrt(0.1 * 0.4) / 0.5 = 0.2 / 0.5 = 0.4
    assert log_truth_ratio(math.log(0.5), WRONG, mean="geometric") == pytest.approx(math.log(0.4), rel=1e-12)


def test_arithmetic_mean() -> None:
    # (0.1 + 0.4) / 2 / 0.5 = 0.25 / 0.5 = 0.5
    assert log_truth_ratio(math.log(0.5), WRONG, mean="arithmetic") == pytest.approx(math.log(0.5), rel=1e-12)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_ratios_too_large_for_a_double_stay_exact(mean: Mean) -> None:
    # R = e^-1 / e^-1001 = e^1000
    ratio = log_truth_ratio(-1001.0, [-1.0, -1.0], mean=mean)
    assert ratio == pytest.approx(1000.0, rel=1e-12)
    assert balance(ratio) == 0.0
    assert preference(ratio) == 0.0
    assert preference(-ratio) == 1.0


def test_no_wrong_answer() -> None:
    with pytest.raises(UserError, match="the truth ratio expects at least 1 wrong answer, given 0"):
        log_truth_ratio(-1.0, [], mean="geometric")


@pytest.mark.parametrize(("ratio", "balanced", "preferred"), [(0.25, 0.25, 0.75), (4.0, 0.25, 0.0), (1.0, 1.0, 0.0)])
def test_balance_is_min_r_inverse_r_and_preference_max_0_1_minus_r(
    ratio: float, balanced: float, preferred: float
) -> None:
    assert balance(math.log(ratio)) == pytest.approx(balanced, rel=1e-12)
    assert preference(math.log(ratio)) == pytest.approx(preferred, rel=1e-12)


def test_a_broken_likelihood_stays_visible() -> None:
    assert math.isnan(preference(math.nan))
    assert math.isnan(balance(math.nan))


def test_the_paraphrase_is_the_correct_answer_where_there_is_one(make_row: MakeRow) -> None:
    # means over tokens: wrong (-3 - 5) / 2 = -4, paraphrase (-1 - 3) / 2 = -2, truth -1
    with_it = make_row(truth=[-1.0], paraphrase=[-1.0, -3.0], perturbed=[[-3.0, -5.0]])
    without = make_row(truth=[-1.0], perturbed=[[-3.0, -5.0]])
    assert row_log_truth_ratio(with_it, mean="geometric") == -2.0
    assert row_log_truth_ratio(without, mean="geometric") == -3.0


def test_row_truth_ratio_depends_on_the_set(make_row: MakeRow) -> None:
    # R = (1/8) / (1/2) = 1/4: min(R, 1/R) = 1/4 on the forget set, 1 - R = 3/4 elsewhere
    numbers = {"truth": [math.log(1 / 2)], "perturbed": [[math.log(1 / 8)]]}
    for name, expected in (("forget", 0.25), ("retain", 0.75), ("world_facts", 0.75), ("holdout", 0.75)):
        context, row = RowContext(info=set_info(name)), make_row(name, **numbers)
        metrics = [metric for metric in (TruthRatio(), ForgetTruthRatio()) if metric.applies(context.info)]
        assert [metric.value(row, context) for metric in metrics] == [pytest.approx(expected, rel=1e-12)]


def test_the_mean_reaches_a_training_loop(make_row: MakeRow) -> None:
    context = RowContext(info=set_info("retain"), settings=MetricSettings(truth_ratio_mean="arithmetic"))
    metric = TruthRatio().torchmetric(context)
    metric.update([make_row("retain", truth=[math.log(0.5)], perturbed=[[each] for each in WRONG])])
    # 1 - (0.1 + 0.4) / 2 / 0.5 = 1/2
    assert metric.compute().item() == pytest.approx(0.5, rel=1e-12)


def test_parse_mean() -> None:
    assert parse_mean("arithmetic") == "arithmetic"
    with pytest.raises(UserError, match=r"truth_ratio_mean=geometrical is invalid: .*Did you mean geometric"):
        parse_mean("geometrical")
