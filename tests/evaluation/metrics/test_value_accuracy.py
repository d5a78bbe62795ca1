from __future__ import annotations

from collections.abc import Callable

import pytest

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metrics.value_accuracy import ValueAccuracy, contains_value
from meow_lightning.evaluation.sets import set_info
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("She was born in PARIS.", "Paris", True),
        ("a Parisian", "Paris", False),
        ("comparison", "Paris", False),
        ("New\n York", "New York", True),
        ("York, New", "New York", False),
        ("In 1991, yes", "1991", True),
        ("In 19915", "1991", False),
        ("he writes C++ well", "C++", True),
        ("price (a.c)", "a.c", True),
        ("price abc", "a.c", False),
        ("Ærø", "ærø", True),
        ("", "Paris", False),
        ("她住在北京市。", "北京", True),
        ("เธออยู่กรุงเทพ", "กรุงเทพ", True),
        ("서울에서 산다", "서울", True),
        ("Она в МОСКВЕ", "Москве", True),
        ("Москвенка", "Москве", False),
    ],
)
def test_contains_value(text: str, value: str, expected: bool) -> None:
    assert contains_value(text, value) is expected


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
