from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.evaluation.metrics.truth_probability import TruthProbability, truth_probability
from meow_lightning.evaluation.suite.inputs import SideInputs
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow, Results

MakeRow = Callable[..., AnswerRow]
NAME = "forget/truth_probability"


def results(row: AnswerRow, *, protocol: str = "none", mean: str = "geometric", extra: bool = True) -> Results:
    side = SideInputs(extra_metrics=("truth_probability",) if extra else ())
    return evaluate({"target": [row]}, {}, truth_ratio_mean=mean, protocol=protocol, side_inputs=side)


@pytest.fixture
def row(make_row: MakeRow) -> AnswerRow:
    return make_row(paraphrase=[math.log(0.5)], perturbed=[[math.log(0.1)], [math.log(0.4)]])


def test_the_correct_answers_share(row: AnswerRow) -> None:
    # the wrong answers' mean is .2 if geometric, .25 if arithmetic
    assert results(row).values["target"][NAME] == pytest.approx(5 / 7, rel=1e-12)
    assert results(row, mean="arithmetic").values["target"][NAME] == pytest.approx(2 / 3, rel=1e-12)


def test_open_unlearning_adds_1e_10(make_row: MakeRow) -> None:
    # both answers are as likely as the constant
    tiny = math.log(1e-10)
    row = make_row(paraphrase=[tiny], perturbed=[[tiny]])
    assert results(row, protocol="open_unlearning").values["target"][NAME] == pytest.approx(1 / 3, rel=1e-9)
    assert results(row).values["target"][NAME] == pytest.approx(1 / 2, rel=1e-9)


@pytest.mark.parametrize(("ratio", "expected"), [(1000.0, 0.0), (-1000.0, 1.0), (0.0, 0.5)])
def test_ratios_too_large_for_a_double(ratio: float, expected: float) -> None:
    assert truth_probability(ratio) == expected


def test_it_is_measured_where_it_is_asked_for_alone(row: AnswerRow) -> None:
    without = results(row, extra=False)
    assert TruthProbability.optional
    assert NAME not in {each.name for each in without.definitions} | without.missing["target"].keys()
    found = next(each for each in results(row).definitions if each.name == NAME)
    assert (found.direction, found.main) == ("lower", False)
    assert found.text.endswith("The truth ratio uses the geometric mean.")
