from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from helpers.damages import every_damage, harm

from meow_lightning.errors import UserError
from meow_lightning.pipeline.failures import clear, last, tell, telling


def fail(error: Exception) -> None:
    raise error


def test_a_failure_is_told_in_a_line_and_at_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such"), telling(tmp_path, "cell [a]", private=False):
        fail(ValueError("no such\nluck"))
    path = tmp_path / "runs" / "failed" / "cell_a_.txt"
    lines = path.read_text().splitlines()
    assert lines[:3] == ["no such", "", "Traceback (most recent call last):"]
    assert lines[-2:] == ["ValueError: no such", "luck"]
    found = last(tmp_path, ("other", "cell [a]"))
    assert found is not None
    assert (found.path, found.why, found.time) == (path, "no such", path.stat().st_mtime)


def test_what_ends_well_takes_the_story_away_and_makes_no_folder(tmp_path: Path) -> None:
    with telling(tmp_path, "cell", private=False):
        pass
    assert not (tmp_path / "runs").exists()
    tell(tmp_path, "cell", UserError("mend it"), private=False)
    with telling(tmp_path, "cell", private=False):
        pass
    assert last(tmp_path, ("cell",)) is None


def test_an_interrupt_is_no_failure(tmp_path: Path) -> None:
    tell(tmp_path, "cell", UserError("before"), private=False)
    with pytest.raises(KeyboardInterrupt), telling(tmp_path, "cell", private=False):
        raise KeyboardInterrupt
    found = last(tmp_path, ("cell",))
    assert found is not None
    assert found.why == "before"


def test_a_failure_is_told_once_also_after_it_came_from_another_process(tmp_path: Path) -> None:
    error = UserError("mend it")
    path = tell(tmp_path, "cell", error, private=False)
    assert tell(tmp_path, "method=kl", pickle.loads(pickle.dumps(error)), private=False) == path
    assert [each.name for each in path.parent.iterdir()] == ["cell.txt"]


def test_the_later_of_two_stories_counts(tmp_path: Path) -> None:
    for number, name in enumerate(("words", "tag")):
        path = tell(tmp_path, name, UserError(name), private=False)
        os.utime(path, (100 - number, 100 - number))
    found = last(tmp_path, ("words", "tag"))
    assert found is not None
    assert (found.why, found.time) == ("words", 100.0)
    clear(tmp_path, "words")
    found = last(tmp_path, ("words", "tag"))
    assert found is not None
    assert found.why == "tag"


def test_an_error_without_words_is_named_by_its_kind(tmp_path: Path) -> None:
    tell(tmp_path, "cell", ZeroDivisionError(), private=False)
    found = last(tmp_path, ("cell",))
    assert found is not None
    assert found.why == "ZeroDivisionError"


@every_damage
def test_a_damaged_story_is_still_one(tmp_path: Path, damage: str) -> None:
    harm(tell(tmp_path, "cell", ValueError("no such luck 1"), private=False), damage)
    assert last(tmp_path, ["cell"]) is not None
