from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.damages import every_damage, harm

from meow_lightning.store.artifact import Artifact
from meow_lightning.store.jsonl import write_lines
from meow_lightning.tracking.base import NullLogger, Number, RunEnd
from meow_lightning.tracking.csv import Csv
from meow_lightning.tracking.tracker import SyncedKeys, Tracker

UNLEARN = Artifact(stage="unlearn", label="unlearned", version=1, settings={}, needs={}, inputs={})


class Kept:
    def __init__(self) -> None:
        self.points: list[tuple[str, dict[str, Any]]] = []

    def point(self, name, values) -> None:
        self.points.append((name, dict(values)))

    def close(self, end) -> str:
        return ""


def append(folder: Path, text: str) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


@pytest.fixture
def followed(tmp_path):
    sink = Kept()
    tracker = Tracker(sink=sink, synced=())
    return tmp_path, sink, lambda: tracker.running({UNLEARN.key: (UNLEARN, tmp_path)}), tracker


def test_a_growing_file_is_followed_without_losing_or_doubling(followed):
    folder, sink, look, tracker = followed
    look()
    append(folder, '{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    look()
    look()
    assert sink.points == [("unlearn unlearned", {"step": 1, "loss": 3.0})]
    append(folder, 'ss": 2.0}\n')
    look()
    append(folder, '{"step": 3, "loss": 1.0}\n')
    moved = folder / "final"
    moved.mkdir()
    (folder / "metrics.jsonl").rename(moved / "metrics.jsonl")  # as the store does at the end
    tracker.finished(UNLEARN, {}, moved, computed=True)
    assert [values["step"] for _, values in sink.points] == [1, 2, 3]


def test_points_of_one_step_with_other_names_are_all_kept(followed):
    folder, sink, look, _ = followed
    append(folder, '{"step": 1, "loss": 3.0}\n{"step": 1, "memo": 0.5}\n')
    look()
    assert len(sink.points) == 2


def test_a_resumed_training_that_cuts_its_curve_back_loses_and_doubles_nothing(followed):
    folder, sink, look, _ = followed
    append(folder, "".join(json.dumps({"step": step, "loss": float(step)}) + "\n" for step in range(1, 5)) + '{"ste')
    look()
    # The checkpoint is that of step 2: later points come again, in lines of another length.
    write_lines(folder / "metrics.jsonl", [{"step": step, "loss": float(step)} for step in (1, 2)])
    look()
    for step in range(3, 7):
        append(folder, json.dumps({"step": step, "loss": step + 0.125}) + "\n")
        look()
    assert [values["step"] for _, values in sink.points] == [1, 2, 3, 4, 5, 6]


def test_a_found_stage_is_replayed_whole(tmp_path):
    sink = Kept()
    append(tmp_path, '{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    Tracker(sink=sink, synced=()).finished(UNLEARN, {}, tmp_path, computed=False)
    assert [values["loss"] for _, values in sink.points] == [3.0, 2.0]


def test_a_stage_without_a_curve_is_nothing(followed):
    _, sink, look, tracker = followed
    look()
    tracker.waiting(UNLEARN, "someone")
    assert sink.points == []


def test_csv_holds_curves_and_summary(tmp_path):
    sink = Csv(folder=tmp_path / "runs", run="run", private=False)
    sink.point("unlearn unlearned", {"step": 1, "loss": 3.0, "lr": 0.5})
    line = sink.close(RunEnd(outcome="finished", numbers=[Number("model_utility", 0.25, "higher")]))
    assert line == f"curves: {tmp_path / 'runs' / 'run.csv'}"
    assert (tmp_path / "runs" / "run.csv").read_text().splitlines() == [
        "curve,step,name,value",
        "unlearn unlearned,1,loss,3.0",
        "unlearn unlearned,1,lr,0.5",
        "summary,,model_utility,0.25",
    ]
    Csv(folder=tmp_path / "runs", run="run", private=False).close(RunEnd(outcome="finished"))
    assert (tmp_path / "runs" / "run.csv").read_text().splitlines() == ["curve,step,name,value"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run.csv"]


def test_nowhere_says_nothing():
    assert NullLogger().close(RunEnd(outcome="finished")) == ""


def test_metrics_that_a_logger_received_are_not_sent_again(tmp_path: Path) -> None:
    synced = SyncedKeys(tmp_path / "synced.json", private=False)
    assert synced.keys == set()
    synced.add({"b", "a"})
    assert SyncedKeys(tmp_path / "synced.json", private=False).keys == {"a", "b"}


@every_damage
def test_a_damaged_record_of_synced_keys_is_dropped(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "synced" / "wandb-7.json"
    SyncedKeys(path, private=False).add(["1a", "2b"])
    harm(path, damage)
    synced = SyncedKeys(path, private=False)
    # a digit more or less is another key, which nobody asks for
    assert synced.damaged == (damage != "another digit")
    assert "1a" not in synced.keys
    synced.add(["1a"])
    assert "1a" in SyncedKeys(path, private=False).keys
    assert not SyncedKeys(path, private=False).damaged


@every_damage
def test_of_a_damaged_curve_those_points_are_sent_that_can_be_read(followed, damage: str) -> None:
    folder, sink, look, _ = followed
    append(folder, "".join(f'{{"step": {i}, "loss": {i}.0}}\n' for i in range(6)))
    harm(folder / "metrics.jsonl", damage)
    append(folder, '\n{"step": 9, "loss": 9.0}\n')
    look()
    assert sink.points[-1][1] == {"step": 9, "loss": 9.0}
    assert all(set(point) == {"step", "loss"} for _, point in sink.points)
