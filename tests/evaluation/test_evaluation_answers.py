from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from meow_lightning.evaluation.answers import Need, RowContext, has_tokens, row_has, unmet_need
from meow_lightning.evaluation.sets import set_info
from meow_lightning.evaluation.suite.inputs import SideInputs, collect_answers, metric_settings
from meow_lightning.types import AnswerRow

MakeRow = Callable[..., AnswerRow]
SETTINGS = metric_settings(truth_ratio_mean="geometric", protocol="none")


def test_a_log_has_no_tokens(make_row: MakeRow) -> None:
    truth = make_row(truth=[-1.0, -2.0]).truth
    assert has_tokens(truth)
    assert not has_tokens(replace(truth, hits=(), mean=(), std=()))
    assert not has_tokens(replace(truth, std=()))
    assert not has_tokens(replace(truth, ids=(), logps=(), hits=(), mean=(), std=()))


@pytest.mark.parametrize(
    ("need", "given"),
    [
        ("wrong_answers", {"perturbed": [[-1.0]]}),
        ("gradient", {"gradient": 0.5}),
        ("generation", {"stop": "length"}),
        ("tokens", {"truth": [-1.0, -1.0]}),
    ],
)
def test_what_a_metric_needs_is_found_or_named(make_row: MakeRow, need: Need, given: dict) -> None:
    row = make_row(**given)
    lacking = replace(
        row, perturbed=(), gradient=None, generated=(), stop="length", truth=replace(row.truth, hits=(), std=())
    )
    assert row_has(row, frozenset({need}))
    assert not row_has(lacking, frozenset({need}))
    answers = collect_answers(
        {"target": [row, replace(lacking, index=1)]}, {}, SETTINGS, absent={}, side_inputs=SideInputs()
    )
    assert unmet_need(answers, "target", "forget", frozenset()) == ""
    # a metric of wrong answers leaves the questions without some out, unless all are
    expected = "" if need == "wrong_answers" else "1 of 2 "
    assert unmet_need(answers, "target", "forget", frozenset({need}))[: len("1 of 2 ")] == expected
    bare = collect_answers({"target": [lacking]}, {}, SETTINGS, absent={}, side_inputs=SideInputs())
    assert unmet_need(bare, "target", "forget", frozenset({need})).startswith("1 of 1 ")


def test_a_need_of_the_retain_model_is_unmet_where_there_is_none(make_row: MakeRow) -> None:
    answers = collect_answers(
        {"target": [make_row()]}, {}, SETTINGS, absent={"retain": "made without"}, side_inputs=SideInputs()
    )
    assert unmet_need(answers, "target", "forget", frozenset({"retain"})) == "made without"


def test_what_rows_share_is_computed_once_per_model(make_row: MakeRow) -> None:
    rows = {"target": [make_row(), make_row("retain")], "unlearned": [make_row()]}
    answers = collect_answers(rows, {}, SETTINGS, absent={}, side_inputs=SideInputs())
    calls: list[int] = []

    def count(model_rows: Sequence[AnswerRow]) -> int:
        calls.append(len(model_rows))
        return len(model_rows)

    found = [answers.context("target", set_info(name)).shared(count) for name in ("forget", "retain")]
    assert (found, answers.context("unlearned", set_info("forget")).shared(count)) == ([2, 2], 1)
    assert calls == [2, 1]
    assert RowContext(info=set_info("forget")).shared(len) == 0
