from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers.damages import every_damage, harm

from meow_lightning.store import durable
from meow_lightning.store.durable import (
    Lines,
    checked_line,
    checked_lines,
    plain_lines,
    replace_atomically,
    sync_to_disk,
)

ROWS = [{"i": number, "text": f"é {number}\n\t"} for number in range(5)]


def test_a_line_holds_its_own_check():
    assert (
        checked_line({"a": 1}) == '{"a": 1}\tfba18e97\n'
    )  # perl -e 'use Compress::Zlib; printf "%08x", crc32("{\\"a\\": 1}")'


def test_lines_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a").write_text("".join(map(checked_line, ROWS)), encoding="utf-8")
    assert checked_lines(tmp_path / "a") == (ROWS, 0)
    assert checked_lines(tmp_path / "none") == plain_lines(tmp_path / "none") == Lines([], 0)


@every_damage
def test_of_damaged_lines_those_are_left_that_are_as_they_were_written(tmp_path, damage):
    path = tmp_path / "a"
    path.write_text("".join(map(checked_line, ROWS)), encoding="utf-8")
    harm(path, damage)
    rows, damaged = checked_lines(path)
    assert all(row in ROWS for row in rows)
    assert len(rows) < len(ROWS)
    left = {"truncated": 2, "zeros at the end": 2, "foreign bytes": 4, "another digit": 4}
    assert len(rows) == left.get(damage, 0)
    assert bool(damaged) == (damage in ("foreign bytes", "another digit", "another kind"))


def test_of_plain_lines_those_are_left_that_hold_objects(tmp_path):
    (tmp_path / "a").write_bytes(b'{"a": 1}\n[1]\n\0\0\n{"b"\n\xff\n{"c": 2}\n{"cut')
    assert plain_lines(tmp_path / "a") == ([{"a": 1}, {"c": 2}], 4)


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append((tmp_path / "a").exists()))
    (tmp_path / "side").write_text("x")
    replace_atomically(tmp_path / "side", tmp_path / "a")
    assert seen == [False]
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize("count", [1, 3])
def test_a_disk_that_is_full_when_it_is_synced_is_an_error(tmp_path: Path, monkeypatch, count):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    paths = [tmp_path / str(number) for number in range(count)]
    for path in paths:
        path.write_text("x")
    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sync_to_disk(paths)
    sync_to_disk([tmp_path])  # of a folder it is no error: some network file systems cannot
