"""Jobs of a sweep over facts that a model knows: it is asked once, and before results that depend on the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.hydra import CONF, options
from helpers.known import answer, known_words

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import launcher_config
from meow_lightning.errors import UserError
from meow_lightning.experiment import prepare
from meow_lightning.sweep import scheduler
from meow_lightning.sweep.jobs import Task


class Asked:
    """A queue whose probes store made-up answers, and whose other jobs do nothing."""

    known = 4
    asked: list[list[Task]]

    def __init__(self, launcher: Any, **_: Any) -> None:
        type(self).asked = []

    def run(self, tasks: Sequence[Task], *, label: str) -> list[Exception | None]:
        self.asked.append(list(tasks))
        if label == "probe":
            config = tasks[0].config
            answer(prepare(config)[0], Path(config.outputs), known=self.known)
        return [None] * len(tasks)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    monkeypatch.setattr(scheduler, "Queue", Asked)
    monkeypatch.setattr(scheduler.PreflightChecks, "fetch", lambda *_: None)  # looks through the model in a process
    words = known_words(tmp_path)
    return [options(*words, f"dataset.forget_count={count}", small=()) for count in (1, 2)]


def launch(runs: list[RunConfig], folder: Path) -> list[scheduler.Ended]:
    node = yaml.safe_load((CONF / "hydra" / "launcher" / "local.yaml").read_text())
    del node["_target_"]
    return scheduler.launch(runs, launcher_config({**node, "folder": str(folder)}))


def test_the_model_is_asked_once_and_first(runs: list[RunConfig], tmp_path: Path) -> None:
    assert [error for _, error in launch(runs, tmp_path / "jobs")] == [None, None]
    probes, *others = Asked.asked
    assert [task.name for task in probes] == ["probe target"]
    final = {artifact.key for run in runs for artifact in prepare(run)[1]}
    shared = {key for tasks in others for task in tasks for key in task.keys or ()}
    assert shared
    assert shared <= final


def test_a_run_that_needs_more_facts_than_are_known_ends_alone(
    runs: list[RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asked, "known", 2)
    (_, first), (_, second) = launch(runs, tmp_path / "jobs")
    assert first is None
    assert isinstance(second, UserError)
    assert "the target model knows 2 of 6 facts" in str(second)
