from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from helpers.damages import every_damage, harm

from meow_lightning import experiment
from meow_lightning.errors import UserError
from meow_lightning.pipeline.runners import StageError
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.store import Store
from meow_lightning.sweep.jobs import Task, dependency_layers, missing, read_outcome


def made(name: str, *needs: Artifact) -> Artifact:
    return Artifact(
        stage="finetune", label=name, version=1, settings={"name": name}, inputs={},
        needs={each.label: each for each in needs},
    )  # fmt: skip


BASE = made("base")
TARGET, RETAIN = made("target", BASE), made("retain", BASE)
ANSWERS = made("answers", TARGET)
OWN = [made(f"own {number}", TARGET, RETAIN) for number in range(2)]


def test_missing_shared_results_come_in_layers_each_once() -> None:
    runs = [[BASE, TARGET, RETAIN, ANSWERS, OWN[0]], [BASE, TARGET, RETAIN, ANSWERS, OWN[1]], [BASE, TARGET]]
    found = [[(place, each.label) for place, each in layer] for layer in dependency_layers(runs)]
    assert found == [[(0, "base")], [(0, "target"), (0, "retain")], [(0, "answers")]]


def test_stored_results_need_no_layer() -> None:
    runs = [[TARGET, OWN[0]], [TARGET, OWN[1]]]  # the base is there
    assert [[each.label for _, each in layer] for layer in dependency_layers(runs)] == [["target"]]
    assert dependency_layers([[OWN[0]], [OWN[1]]]) == []
    assert dependency_layers([]) == []


def test_results_whose_input_is_missing_are_missing_too(tmp_path: Path) -> None:
    store = Store(root=tmp_path, cache="use")
    for artifact in (BASE, TARGET, OWN[0]):
        store.begin(artifact)
        store.finish(artifact, {})
    assert [each.label for each in missing([BASE, TARGET, RETAIN, OWN[0]], store)] == ["retain", "own 0"]


def task(path: Path, **changes) -> Task:
    return Task(**{"name": "a", "config": {"x": 1}, "keys": None, "outcome": str(path), "visible": None} | changes)


def test_a_job_says_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []

    class Program:
        error: Exception | None = None

        def run(self, options) -> None:
            ran.append(options)
            if self.error is not None:
                raise self.error

        def make(self, options, keys) -> None:
            ran.append((options, keys))

        def close(self) -> None:
            ran.append("closed")

    program = Program()
    monkeypatch.setattr(experiment, "PROGRAM", program)
    path = tmp_path / "ended.json"
    task(path)()
    assert read_outcome(path) is None
    task(path, keys=("k",))()
    assert ran == [{"x": 1}, "closed", ({"x": 1}, ("k",)), "closed"]
    program.error = UserError("the teacher is silent")
    task(path)()
    error = read_outcome(path)
    assert isinstance(error, UserError)
    assert str(error) == "the teacher is silent"
    program.error = ZeroDivisionError("by nothing")
    task(path)()
    error = read_outcome(path)
    assert isinstance(error, StageError)
    assert "ZeroDivisionError: by nothing" in str(error)


@every_damage
def test_a_job_whose_last_word_is_damaged_has_failed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ended.json"
    write_json(path, {"kind": "stage0", "message": "m", "traceback": "s"})
    harm(path, damage)
    error = read_outcome(path)
    assert isinstance(error, StageError)
    assert str(error) == f"the outcome of a job cannot be read ({path}); rerun the same command to continue"


def test_of_several_machines_the_first_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    task(tmp_path / "ended.json")()
    assert not list(tmp_path.iterdir())


def test_a_requeued_task_is_the_same_task(tmp_path: Path) -> None:
    one = task(tmp_path / "ended.json")
    assert one.checkpoint().function == one
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.config == {"x": 1}
