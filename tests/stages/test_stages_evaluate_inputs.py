from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.common import runtime

from meow_lightning.evaluation.predictions import write_rows
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.needs import EvaluationInputs
from meow_lightning.stages.evaluate import answers, scores
from meow_lightning.store.jsonl import write_lines
from meow_lightning.types import AnswerRow, Likelihood, ScoredText

SURE = Likelihood(ids=(5,), logps=(-1.0,), hits=(1,), mean=(-2.0,), std=(1.0,))


def row(name: str, index: int, role: str) -> AnswerRow:
    return AnswerRow(
        set=name, index=index, fact=f"{name}{index}", question=f"{name} {index}?", answer="Lima", value=None,
        truth=SURE, paraphrase=None, perturbed=(), generated=(7,), text=f"{role} says {index}", stop="end",
    )  # fmt: skip


def work(folder: Path, **settings: Any) -> StageContext:
    needs = {}
    for role in ("target", "unlearned", "retain"):
        needs[f"predict/{role}"] = folder / role
        (folder / role).mkdir()
        rows = [row(name, index, role) for name in ("forget", "retain") for index in range(8)]
        write_rows(folder / role / "rows.jsonl", rows)
    return StageContext(
        stage="evaluate", label="", folder=folder, settings=settings, inputs={}, needs=needs, runtime=runtime()
    )  # fmt: skip


def test_every_role_is_counted_by_its_own_answers(tmp_path: Path) -> None:
    found = answers(work(tmp_path), selection_fraction=0.0)
    assert {role: [each.text for each in rows[:2]] for role, rows in found.items()} == {
        "target": ["target says 0", "target says 1"], "unlearned": ["unlearned says 0", "unlearned says 1"],
        "retain": ["retain says 0", "retain says 1"],
    }  # fmt: skip
    assert {len(rows) for rows in found.values()} == {16}


def test_rows_set_aside_to_choose_an_epoch_count_nowhere(tmp_path: Path) -> None:
    found = answers(work(tmp_path), selection_fraction=0.25)
    left = {role: [each.fact for each in rows] for role, rows in found.items()}
    assert left["target"] == left["unlearned"] == left["retain"]
    assert len(left["target"]) == 2 * (8 - 2)  # a quarter of eight, of each set
    assert [each.index for each in found["target"]] == [*range(6), *range(6)]


def test_scores_are_kept_apart_by_role_and_kind(tmp_path: Path) -> None:
    needs = {}
    for number, name in enumerate(("target/answers", "target/candidates", "retain/answers")):
        needs[f"score/{name}"] = folder = tmp_path / str(number)
        folder.mkdir()
        text = ScoredText("a", "answer", 0, "Lima", number / 4, (number / 4,))
        write_lines(folder / "scores.jsonl", [asdict(text)])
    found = scores(EvaluationInputs.from_needs({**needs, "predict/target": tmp_path}))
    assert {role: {kind: texts[0].score for kind, texts in kinds.items()} for role, kinds in found.items()} == {
        "target": {"answers": 0.0, "candidates": 0.25}, "retain": {"answers": 0.5},
    }  # fmt: skip
