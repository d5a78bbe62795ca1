from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.common import runtime
from helpers.damages import every_damage, harm

from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.chunks import in_chunks
from meow_lightning.stages.common.shards import Parts
from meow_lightning.stages.common.training import cut_curve
from meow_lightning.store.jsonl import read_lines, write_lines

POINTS = [{"step": step, "loss": step / 10} for step in range(10, 20)]


@dataclass(frozen=True)
class Row:
    score: float


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    return StageContext(
        stage="score", label="", folder=tmp_path, settings={}, inputs={}, needs={}, runtime=runtime(),
    )  # fmt: skip


def test_points_after_the_checkpoint_are_taken_away_and_without_one_all(work: StageContext) -> None:
    for start, left in ((14, POINTS[:5]), (0, [])):
        write_lines(work.folder / "metrics.jsonl", POINTS)
        cut_curve(work, start)
        assert list(read_lines(work.folder / "metrics.jsonl")) == left
    assert work.manifest_entries() == {}


@every_damage
def test_a_damaged_curve_keeps_the_points_that_can_be_read(work: StageContext, damage: str) -> None:
    write_lines(work.folder / "metrics.jsonl", POINTS)
    harm(work.folder / "metrics.jsonl", damage)
    cut_curve(work, 19)
    points = list(read_lines(work.folder / "metrics.jsonl"))
    assert len(points) >= {"truncated": 4, "zeros at the end": 4, "foreign bytes": 9, "another digit": 9}.get(damage, 0)
    assert all({"step", "loss"} == set(point) for point in points)
    if damage == "foreign bytes":
        assert work.manifest_entries()["notes"][0].endswith(
            "of the training curve were damaged on the disk and are lost; no metric is affected"
        )


def make_rows(work: StageContext, made: list[list[int]]) -> list[dict]:
    def make(numbers, tell):
        made.append(list(numbers))
        return [(number, Row(number / 8)) for number in numbers]

    groups = [[number] for number in range(8)]
    in_chunks(work, groups, sizes=[1] * 8, least=3, unit="texts", name="rows.jsonl", make=make)
    return list(read_lines(work.folder / "rows.jsonl"))


@every_damage
@pytest.mark.parametrize("file", ["part-0.jsonl", "rows.jsonl"])
def test_a_chunk_of_which_a_row_was_damaged_is_made_anew_whole_and_no_other(
    work: StageContext, damage: str, file: str
) -> None:
    first: list[list[int]] = []
    whole = make_rows(work, first)
    assert first == [[0, 1, 2], [3, 4, 5], [6, 7]]
    harm(work.folder / file, damage)
    again: list[list[int]] = []
    assert make_rows(work, again) == whole
    assert all(chunk in first for chunk in again)
    assert len(again) < 3 or damage in ("zeros", "empty", "another kind")
    assert bool(again) == (file == "part-0.jsonl")


def test_rows_that_were_lost_while_they_were_put_together_are_an_error(work: StageContext, monkeypatch) -> None:
    merge = Parts.merge

    def losing(self: Parts, path: Path) -> list[dict]:
        harm(self.folder / "part-0.jsonl", "truncated")
        return merge(self, path)

    monkeypatch.setattr(Parts, "merge", losing)
    with pytest.raises(
        RuntimeError, match=r"^rows of rows.jsonl were lost on the disk during the computation; run again"
    ):
        make_rows(work, [])
