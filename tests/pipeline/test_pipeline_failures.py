from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from helpers.damages import every_damage, harm

from meow_lightning.errors import UserError
from meow_lightning.pipeline.failures import last_failure, record_failure, recording_failures


def fail(error: Exception) -> None:
    raise error


def test_a_failure_is_reported_in_a_line_and_at_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such"), recording_failures(tmp_path, "run [a]", private=False):
        fail(ValueError("no such\nluck"))
    path = tmp_path / "runs" / "failed" / "run_a_.txt"
    lines = path.read_text().splitlines()
    assert lines[:3] == ["no such", "", "Traceback (most recent call last):"]
    assert lines[-2:] == ["ValueError: no such", "luck"]
    found = last_failure(tmp_path, "run [a]")
    assert found is not None
    assert (found.path, found.why, found.time) == (path, "no such", path.stat().st_mtime)


def test_success_removes_the_failure_record_and_creates_no_folder(tmp_path: Path) -> None:
    with recording_failures(tmp_path, "run", private=False):
        pass
    assert not (tmp_path / "runs").exists()
    record_failure(tmp_path, "run", UserError("mend it"), private=False)
    with recording_failures(tmp_path, "run", private=False):
        pass
    assert last_failure(tmp_path, "run") is None


def test_an_interrupt_is_no_failure(tmp_path: Path) -> None:
    record_failure(tmp_path, "run", UserError("before"), private=False)
    with pytest.raises(KeyboardInterrupt), recording_failures(tmp_path, "run", private=False):
        raise KeyboardInterrupt
    found = last_failure(tmp_path, "run")
    assert found is not None
    assert found.why == "before"


def test_a_failure_is_reported_once_also_after_it_came_from_another_process(tmp_path: Path) -> None:
    error = UserError("mend it")
    path = record_failure(tmp_path, "run", error, private=False)
    assert record_failure(tmp_path, "method=kl", pickle.loads(pickle.dumps(error)), private=False) == path
    assert [each.name for each in path.parent.iterdir()] == ["run.txt"]


def test_an_error_without_words_is_named_by_its_kind(tmp_path: Path) -> None:
    record_failure(tmp_path, "run", ZeroDivisionError(), private=False)
    found = last_failure(tmp_path, "run")
    assert found is not None
    assert found.why == "ZeroDivisionError"


@every_damage
def test_a_damaged_story_is_still_one(tmp_path: Path, damage: str) -> None:
    harm(record_failure(tmp_path, "run", ValueError("no such luck 1"), private=False), damage)
    assert last_failure(tmp_path, "run") is not None
