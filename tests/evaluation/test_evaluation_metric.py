"""The contract of a metric: a class is all that definitions, numbers, intervals and predictions need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from meow_lightning.evaluation import metrics
from meow_lightning.evaluation.answers import Answers, MetricSettings, RowContext
from meow_lightning.evaluation.metric import AFTER_SETS, SET_ORDER, Metric, Outcome, RowMetric, RunMetric
from meow_lightning.evaluation.sets import BENCHMARK, set_info
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, headline_samples
from meow_lightning.evaluation.suite.inputs import SideInputs, metric_settings
from meow_lightning.evaluation.suite.suite import definitions, evaluate
from meow_lightning.types import AnswerRow, Definition, SetInfo

MakeRow = Callable[..., AnswerRow]
SETTINGS = metric_settings(truth_ratio_mean="geometric", protocol="none")


class Length(RowMetric):
    """Words of the greedy answer, on sets that are to be forgotten or kept."""

    name, id, unit, direction, direction_when_forgotten = "length", "length.1", "words", "higher", "lower"
    text, label, order, main = "Mean number of words of the greedy answer.", "words of the answer", 35, True
    needs = frozenset({"gradient"})

    def applies(self, info: SetInfo) -> bool:
        return info.purpose in ("forget", "retain")

    def value(self, row: AnswerRow, context: RowContext) -> float:
        return float(len(row.text.split()))


class Longest(RunMetric):
    """The longest greedy answer of a model."""

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        return [Definition("longest", "longest.1", "words", "none", "Longest.", "longest answer", AFTER_SETS, False)]

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        if reason := answers.missing_reason(role, None):
            return {"longest": reason}
        rows = [row for rows in answers.sets[role].values() for row in rows]
        return {"longest": float(max(len(row.text.split()) for row in rows))}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two metrics beside those of the package."""
    suite: tuple[Metric, ...] = (Length(), *metrics.all_metrics(), Longest())
    for module in ("metrics", "suite.suite", "suite.bootstrap"):
        monkeypatch.setattr(f"meow_lightning.evaluation.{module}.all_metrics", lambda extra=(): suite)


@pytest.mark.usefixtures("added")
def test_a_metric_is_measured_where_it_applies_and_needs_no_other_place(make_row: MakeRow) -> None:
    rows = [
        make_row("forget", 0, text="red", gradient=1.0),
        make_row("forget", 1, text="red sky over", gradient=1.0),
        make_row("retain", 0, text="sea"),
        make_row("holdout", 0, text="sea and sun now"),
    ]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric")
    assert results.values["target"]["forget/length"] == 2.0
    assert results.values["target"]["longest"] == 4.0
    assert results.missing["target"]["retain/length"].startswith("1 of 1 true answers of set 'retain' have no gradient")
    assert results.missing["unlearned"]["longest"] == "this run has no predictions of the unlearned model"
    assert not {"holdout/length", "real_authors/length"} & {each.name for each in results.definitions}
    forget, retain = (each for each in results.definitions if each.metric == "length")
    assert (forget.name, forget.label, forget.direction) == ("forget/length", "forget words of the answer", "lower")
    assert (retain.name, retain.direction, retain.main) == ("retain/length", "higher", True)
    names = [each.name for each in results.definitions]
    assert names.index("forget/truth_ratio") + 1 == names.index("forget/length")


@pytest.mark.usefixtures("added")
def test_a_main_metric_has_an_interval(make_row: MakeRow) -> None:
    rows = [make_row("forget", at, text=text, gradient=1.0) for at, text in enumerate(("red", "red sky over"))]
    samples = headline_samples(
        {"target": rows}, {}, truth_ratio_mean="geometric", protocol="none", bootstrap=Bootstrap(40, 0)
    )
    assert set(np.unique(samples["target"].drawn["forget/length"])) == {1.0, 2.0, 3.0}


@pytest.mark.usefixtures("added")
def test_predictions_pay_only_for_what_a_metric_needs() -> None:
    assert metrics.sets_that_need("gradient", BENCHMARK) == ["forget", "retain", "holdout"]
    assert metrics.sets_that_need("gradient", [set_info("world_facts")]) == []


def test_gradients_are_needed_where_members_meet_others() -> None:
    assert metrics.sets_that_need("gradient", BENCHMARK) == ["forget", "holdout"]
    assert metrics.sets_that_need("gradient", [info for info in BENCHMARK if info.name != "holdout"]) == []


def test_a_formula_of_a_protocol_replaces_the_value(make_row: MakeRow) -> None:
    row = make_row(truth=[-1.0, -1.0], hits=[0, 1])
    values = {
        name: evaluate({"target": [row]}, {}, truth_ratio_mean="geometric", protocol=name).values["target"]
        for name in ("none", "open_unlearning")
    }
    assert [each["forget/extraction_strength"] for each in values.values()] == [0.0, 1.0]


def test_a_metric_of_which_no_row_counts_is_missing(make_row: MakeRow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meow_lightning.evaluation.metrics.rouge.RougeLRecall.missing_reason", lambda *_: "")
    results = evaluate({"target": [make_row(answer="!!!")]}, {}, truth_ratio_mean="geometric")
    assert results.missing["target"]["forget/rouge_l_recall"] == "none of its questions counts"


ALL = metrics.all_metrics(tuple(metrics.optional_metrics()))


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: type(metric).__name__)
def test_every_metric_defines_what_it_computes(metric: Metric, make_row: MakeRow) -> None:
    sets = [*BENCHMARK, SetInfo("texts", "utility", "free")]
    defined = metric.definitions(sets, replace(SETTINGS, partial=("retain",)))
    assert defined
    for each in defined:
        assert each.label
        assert each.text.endswith((".", "?"))
        assert each.version >= 1
    rows = [
        make_row(info.name, at, perturbed=[[-2.0]] if at or info.name != "retain" else ())
        for info in sets
        for at in range(2)
    ]
    present: dict[str, Any] = {"target": rows, "retain": rows}
    side = SideInputs(extra_metrics=tuple(metrics.optional_metrics()))
    results = evaluate(present, {}, truth_ratio_mean="geometric", benchmark=sets, side_inputs=side)
    found = {**results.values["target"], **results.missing["target"]}
    assert {each.name for each in defined} <= found.keys()


def test_every_file_holds_a_metric_and_no_number_is_defined_twice() -> None:
    files = {type(metric).__module__.rpartition(".")[2] for metric in ALL}
    assert {"rouge", "membership", "model_utility", "memo", "truth_probability"} <= files
    partial = tuple(info.name for info in BENCHMARK)
    settings = replace(SETTINGS, extra=tuple(metrics.optional_metrics()), partial=partial)
    every = definitions(BENCHMARK, settings, protocol="none")
    assert len({each.name for each in every}) == len({each.order for each in every}) == len(every)
    places = [each.order for each in every if "/" in each.name and each.name.split("/")[0] == "retain"]
    assert min(places) // SET_ORDER == max(places) // SET_ORDER == 2
