from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.library import dataset, language_model

import meow_lightning as meow
from meow_lightning.evaluation.predictions import read_rows

OPTIONS = ["evaluation.max_new_tokens=6", "evaluation.gradient_norm=false", "evaluation.bootstrap_samples=20"]


@pytest.fixture(scope="module")
def report() -> meow.Evaluation:
    facts = dataset(limit=2)
    return meow.evaluate(language_model(facts), facts, target=language_model(facts), measure=None, options=OPTIONS)


def test_values_are_read_by_name_and_role(report: meow.Evaluation) -> None:
    assert 0 <= report["forget/probability"] == report.value("forget/probability", role="target") <= 1
    assert report.definition("forget/probability").direction == "lower"
    assert "true answer" in report.definition("forget/probability").text


def test_what_is_missing_has_a_reason(report: meow.Evaluation) -> None:
    assert "no retain model was given" in report.missing["forget_quality"]
    with pytest.raises(meow.UserError, match="no retain model was given"):
        report["forget_quality"]
    with pytest.raises(meow.UserError, match="Did you mean forget/probability"):
        report["forget/probabilty"]
    with pytest.raises(meow.UserError, match="Did you mean forget_quality"):
        report.definition("forget_qualty")


def test_a_table_an_interval_and_files(report: meow.Evaluation, tmp_path: Path) -> None:
    frame = report.to_frame()
    assert list(frame.columns) == ["target", "unlearned"]
    assert frame.loc["forget/probability", "target"] == report["forget/probability"]
    low, high = report.intervals()["unlearned"]["forget/probability"]
    assert low <= report["forget/probability"] <= high
    folder = report.save(tmp_path / "new" / "folder")
    stored = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert stored["values"]["unlearned"]["forget/probability"] == report["forget/probability"]
    rows = [(row.set, row.question, row.text) for row in read_rows(folder / "predictions-target.jsonl")]
    assert rows == [(row.set, row.question, row.text) for row in report.predictions["target"]]
    assert (folder / "results.md").read_text(encoding="utf-8") == str(report)


def test_a_published_protocol_defines_the_numbers() -> None:
    facts = dataset(limit=1)
    done = meow.evaluate(
        language_model(facts), facts, measure=None, options=[*OPTIONS, "evaluation.protocol=open_unlearning"]
    )
    assert "open_unlearning" in done.definition("forget/probability").id


def test_a_selection_of_checkpoints_takes_the_pipeline() -> None:
    facts = dataset(limit=1)
    with pytest.raises(meow.UserError, match="selection_fraction"):
        meow.evaluate(language_model(facts), facts, options=["evaluation.selection_fraction=0.5"])
