from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.cell import _close, choice_notes
from meow_lightning.cellgraph import Graph
from meow_lightning.store import Artifact, Store
from meow_lightning.terminal import Terminal
from meow_lightning.types import Results, ScoredText

NAME = "score/target/candidates"


def artifact(stage: str, **settings: Any) -> Artifact:
    return Artifact(stage=stage, label="", version=1, settings=settings, needs={}, inputs={})


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Store, Graph]:
    """A store and a cell that chooses 3 of 4 candidates."""
    report = artifact("report", options={"method": {"select": {"k": 3, "strategy": "largest", "rows": "selected"}}})
    cell = Graph(name="cell", streams=("inverted",), artifacts={NAME: artifact("score"), "report": report})
    store = Store(root=tmp_path, cache="use")
    folder = store.path(cell.artifacts[NAME])
    folder.mkdir(parents=True)
    texts = [ScoredText("f", "candidate", place, "In Lima.", place / 4, (place / 4,)) for place in range(4)]
    (folder / "scores.jsonl").write_text("".join(json.dumps(asdict(text)) + "\n" for text in texts))
    return store, cell


def test_a_blind_choice_is_said_once_the_scores_are_there(scored: tuple[Store, Graph]) -> None:
    store, cell = scored
    (note,) = choice_notes(store, cell, {cell.artifacts[NAME].key})
    assert note.startswith("choosing k=3 of 4 candidates: largest and smallest share 2.0 of 3")
    assert choice_notes(store, cell, {cell.report.key}) == [], "what was not asked for is not shown"


def test_a_method_without_a_choice_has_no_notes_on_it(scored: tuple[Store, Graph]) -> None:
    store, cell = scored
    without = Graph(name="cell", streams=("forget",), artifacts={"report": cell.report})
    assert choice_notes(store, without, {cell.report.key}) == []


def test_notes_on_the_choice_stand_last_and_do_without_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    known = Results(definitions=(), values={"target": {"forget/rouge_l_recall": 0.07}})
    for results, expected in ((known, ["a rule", "the target model says", "a choice"]), (None, ["a choice"])):
        with Terminal(title="cell") as terminal:
            _close(terminal, results, None, "", notes=["a rule"], choice=["a choice"])
        said = [line.removeprefix("note: ") for line in capsys.readouterr().out.splitlines() if "note: " in line]
        assert len(said) == len(expected)
        assert all(line.startswith(start) for line, start in zip(said, expected, strict=True))
