from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.value_accuracy import ValueAccuracy
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


def test_only_rows_with_a_value_count(make_row: MakeRow) -> None:
    rows = [
        make_row(index=0, value="Paris", text="It is Paris."),
        make_row(index=1, value="Rome", text="It is Paris."),
        make_row(index=2, value="Oslo", text="Oslo"),
        make_row(index=3, value=None, text="Oslo"),
        make_row(index=4, value="  ", text="Oslo"),
    ]
    # two of the three rows that mark a value
    metric = ValueAccuracy().torchmetric(RowContext(info=set_info("forget")))
    metric.update(rows)
    assert metric.compute().item() == pytest.approx(2 / 3)


def test_no_value_at_all(make_row: MakeRow) -> None:
    context = RowContext(info=set_info("forget"))
    assert ValueAccuracy().value(make_row(value=None), context) is None
    assert "'forget' marks the words" in ValueAccuracy().missing_reason([make_row(value=None)], context)
    assert ValueAccuracy().missing_reason([make_row(value=None), make_row(value="Rome")], context) == ""


def test_several_values_replace_the_marked_one_and_are_needed_together(make_row: MakeRow) -> None:
    context = RowContext(info=set_info("forget"))
    row = make_row(value="Rome", values=("Paris", "Oslo"), text="Oslo, then Paris")
    assert ValueAccuracy().value(row, context) == 1.0
    assert ValueAccuracy().value(make_row(value="Rome", values=("Paris", "Oslo"), text="Paris, Rome"), context) == 0.0


def test_the_questions_behind_it_are_counted(make_row: MakeRow) -> None:
    rows = [make_row(index=0, values=("Paris",), text="Paris"), make_row(index=1, value=None, text="Paris")]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric")
    found = results.values["target"]
    assert found["forget/value_accuracy"] == 1.0
    assert (found["forget/value_accuracy_covered"], found["forget/value_accuracy_out_of"]) == (1.0, 2.0)
    without = evaluate({"target": [make_row(index=0, value=None)]}, {}, truth_ratio_mean="geometric")
    reasons = without.missing["target"]
    assert reasons["forget/value_accuracy_covered"] == reasons["forget/value_accuracy"]
