from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.probability import (
    NormalisedProbability,
    OptionProbability,
    Probability,
    log_sum_exp,
    mean_logp,
    option_probability,
    probability,
    row_normalised_probability,
)
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_mean_logp_divides_by_every_token_with_the_end_token() -> None:
    # (-1 - 2 - 6) / 3 = -3
    assert mean_logp([-1.0, -2.0, -6.0]) == -3.0


def test_mean_logp_refuses_no_tokens() -> None:
    with pytest.raises(UserError, match=r"at least 1 scored token .the end token., given 0"):
        mean_logp([])


def test_probability_is_the_geometric_mean_of_token_probabilities() -> None:
    # sqrt(1/2 * 1/8) = sqrt(1/16) = 1/4
    assert probability([math.log(1 / 2), math.log(1 / 8)]) == pytest.approx(1 / 4, rel=1e-12)


def test_option_probability() -> None:
    # 0.2 / (0.2 + 0.1 + 0.05 + 0.05) = 0.2 / 0.4 = 0.5
    wrong = [math.log(0.1), math.log(0.05), math.log(0.05)]
    assert option_probability(math.log(0.2), wrong) == pytest.approx(0.5, rel=1e-12)


def test_option_probability_survives_likelihoods_below_the_smallest_double() -> None:
    # e^-2000 / (e^-2000 + 3 e^-2000) = 1/4, though every term alone is 0.0
    assert option_probability(-2000.0, [-2000.0] * 3) == pytest.approx(0.25, rel=1e-12)


def test_option_probability_refuses_no_options() -> None:
    with pytest.raises(UserError, match="option probability expects at least 1 wrong answer, given 0"):
        option_probability(-1.0, [])


def test_log_sum_exp_of_impossible_terms() -> None:
    assert log_sum_exp([-math.inf, -math.inf]) == -math.inf
    # log(0 + e^-3) = -3
    assert log_sum_exp([-math.inf, -3.0]) == pytest.approx(-3.0, rel=1e-15)


@pytest.mark.parametrize(
    ("set_name", "expected"),
    [("forget", 0.2), ("retain", 0.2), ("holdout", 0.2), ("real_authors", 0.5), ("world_facts", 0.5)],
)
def test_row_probability_lets_options_compete_only_where_the_set_has_them(
    make_row: MakeRow, set_name: str, expected: float
) -> None:
    # alone 0.2; among options 0.2 / (0.2 + 0.15 + 0.05) = 0.5
    perturbed = [[math.log(0.15)], [math.log(0.05)]]
    row, info = make_row(set_name, truth=[math.log(0.2)], perturbed=perturbed), set_info(set_name)
    values = [
        metric.value(row, RowContext(info=info))
        for metric in (Probability(), OptionProbability())
        if metric.applies(info)
    ]
    assert values == [pytest.approx(expected, rel=1e-12)]
    assert NormalisedProbability().applies(info) == (expected == 0.2)


def test_normalised_probability_is_the_true_answers_on_any_set(make_row: MakeRow) -> None:
    # 0.2 / (0.2 + 0.1 + 0.1) = 0.5; the paraphrase, which would give 0.6 / 0.8, does not take part
    numbers = {
        "truth": [math.log(0.2)],
        "paraphrase": [math.log(0.6)],
        "perturbed": [[math.log(0.1)], [math.log(0.1)]],
    }
    for name in ("forget", "world_facts"):
        assert row_normalised_probability(make_row(name, **numbers)) == pytest.approx(0.5, rel=1e-12)
    with pytest.raises(UserError, match="at least 1 wrong answer, given 0"):
        row_normalised_probability(make_row())
