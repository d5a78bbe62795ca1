from __future__ import annotations

from pathlib import Path

import pytest

from meow_lightning.data.benchmark_files import benchmark_folder
from meow_lightning.errors import UserError


def test_the_folder_is_the_given_one_or_that_of_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lume").mkdir()
    (tmp_path / "lume" / "a.json").touch()
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    assert benchmark_folder(None, "lume", ("a.json",)) == tmp_path / "lume"
    assert benchmark_folder(f"{tmp_path}/lume", "other", ("a.json",)) == tmp_path / "lume"


def test_what_is_missing_is_named_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"dataset=lume .* MEOW_DATA_DIR is not set: put a\.json into lume/"):
        benchmark_folder(None, "lume", ("a.json",))
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"MEOW_DATA_DIR=.*/lume is not a folder"):
        benchmark_folder(None, "lume", ("a.json",))
    with pytest.raises(UserError, match=r"dataset\.folder=.* lacks a\.json, b\.json"):
        benchmark_folder(str(tmp_path), "lume", ("a.json", "b.json"))
