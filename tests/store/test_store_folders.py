from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from meow_lightning.store.folders import plain_name, why_impossible, why_unwritable


def test_a_folder_that_can_be_made_is_writable_and_is_not_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a" / "b", Path("outputs/of/nobody")):
        assert why_unwritable(folder) is None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_or_a_link_that_leads_nowhere_is_impossible(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "link").symlink_to(tmp_path)
    assert why_impossible(tmp_path / "link" / "new") is None
    for name in ("file", "file/x/y"):
        assert why_impossible(tmp_path / name) == why_unwritable(tmp_path / name) == f"{tmp_path}/file is not a folder"
    for name in ("a", "dangling"):
        assert why_impossible(tmp_path / name) == f"{tmp_path}/{name} is a dangling link"
        assert why_impossible(tmp_path / name / "x" / "y") == f"{tmp_path}/{name} is a dangling link"


@pytest.mark.parametrize("name", ["x" * 256, "語" * 86, "a/" + "y" * 300 + "/b", "/".join(["z" * 200] * 20)])
def test_names_and_paths_that_are_too_long_are_impossible(tmp_path: Path, name: str) -> None:
    assert why_impossible(tmp_path / name) == "names may have at most 255 bytes and paths 3800"
    assert why_impossible(tmp_path / ("x" * 255)) is None


def test_a_file_system_of_the_kernels_takes_no_files() -> None:
    said = why_unwritable(Path("/proc/x"))
    assert said is not None
    assert said.startswith("/proc accepts no files: ")
    assert why_impossible(Path("/proc/x")) is None


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EACCES, "no write permission"), (errno.EROFS, "the disk is read-only"),
        (errno.ENOSPC, "the disk is full"), (errno.EIO, "{} accepts no files: Input/output error"),
    ],
)  # fmt: skip
def test_why_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    def broken(**_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", broken)
    assert why_unwritable(tmp_path / "a" / "b") == said.format(tmp_path)


def test_a_text_as_a_files_name() -> None:
    assert plain_name("method=meow seed=0/../x") == "method=meow_seed=0_.._x"
    assert plain_name("x" * 120) == "x" * 120


def test_a_name_that_is_cut_fits_in_bytes_and_stays_its_own() -> None:
    one, two = plain_name("語" * 100 + "1"), plain_name("語" * 100 + "2")
    assert one != two
    assert one[:37] == two[:37] == "語" * 37
    assert len(one.encode()) <= 120
