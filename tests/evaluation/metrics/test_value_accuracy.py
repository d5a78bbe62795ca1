from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.value_accuracy import ValueAccuracy, row_value_share
from meow_lightning.evaluation.metrics.value_share import ValueShare
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.inputs import SideInputs
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


@pytest.mark.parametrize(
    ("text", "kept", "forgotten", "share"),
    [
        ("Oslo, then Paris", 1.0, 1.0, 1.0),
        ("Paris, Rome", 0.0, 1.0, 0.5),  # one of two secrets is out, so the fact is not forgotten
        ("Rome", 0.0, 0.0, 0.0),  # several values replace the marked one
    ],
)
def test_of_several_values_a_fact_to_keep_needs_all_and_one_to_forget_is_said_by_any(
    make_row: MakeRow, text: str, kept: float, forgotten: float, share: float
) -> None:
    row = make_row(value="Rome", values=("Paris", "Oslo"), text=text)
    contexts = {name: RowContext(info=set_info(name)) for name in ("retain", "world_facts", "holdout", "forget")}
    found = {name: ValueAccuracy().value(row, context) for name, context in contexts.items()}
    assert found == {"retain": kept, "world_facts": kept, "holdout": kept, "forget": forgotten}
    assert row_value_share(row) == ValueShare().value(row, contexts["forget"]) == share


def test_value_share_is_computed_where_it_is_asked_for(make_row: MakeRow) -> None:
    rows = [
        make_row(index=0, values=("Paris", "Oslo", "Rome", "Bern"), text="Paris"),
        make_row(index=1, value="Paris", text="Paris"), make_row(index=2, text="Paris"),
    ]  # fmt: skip
    assert "forget/value_share" not in evaluate({"target": rows}, {}, truth_ratio_mean="geometric").values["target"]
    extra = SideInputs(extra_metrics=("value_share",))
    asked = evaluate({"target": rows}, {}, side_inputs=extra, truth_ratio_mean="geometric")
    assert asked.values["target"]["forget/value_share"] == (0.25 + 1) / 2
    bare = evaluate({"target": [make_row()]}, {}, side_inputs=extra, truth_ratio_mean="geometric")
    assert "marks the words" in bare.missing["target"]["forget/value_share"]


def test_the_questions_behind_it_are_counted(make_row: MakeRow) -> None:
    rows = [make_row(index=0, values=("Paris",), text="Paris"), make_row(index=1, value=None, text="Paris")]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric")
    found = results.values["target"]
    assert found["forget/value_accuracy"] == 1.0
    assert (found["forget/value_accuracy_covered"], found["forget/value_accuracy_out_of"]) == (1.0, 2.0)
    without = evaluate({"target": [make_row(index=0, value=None)]}, {}, truth_ratio_mean="geometric")
    reasons = without.missing["target"]
    assert reasons["forget/value_accuracy_covered"] == reasons["forget/value_accuracy"]
