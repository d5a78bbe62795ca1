from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.common import artifact

from meow_lightning.cli.verify_store import main
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
EVERY = [artifact("finetune", "base"), artifact("predict", "target"), artifact("report", "")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(root=tmp_path, cache="use")
    for each in EVERY:
        make(made, each)
    made.begin(artifact("score", "half done"))
    (tmp_path / "predict" / "0123456789ab.damaged-7").mkdir()
    return made


def make(store: Store, what: Artifact) -> None:
    folder = store.begin(what)
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"x" * 100)
    store.finish(what, {})


def test_a_whole_store_is_whole(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(store.root)]) == 0
    assert capsys.readouterr().out == "3 results, 0 damaged\n"


def test_damaged_results_are_listed_and_left_as_they_are(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = map(store.path, EVERY)
    (first / "model" / "weights").write_bytes(b"x" * 99 + b"y")
    (second / MANIFEST).unlink()
    before = sorted(store.root.rglob("*"))
    assert main([str(store.root)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"damaged: {first}: model/weights differs from what was sealed",
        f"damaged: {second}: its manifest.json is missing or unreadable",
        "3 results, 2 damaged; the next run that needs them quarantines and recomputes them",
    ]
    assert sorted(store.root.rglob("*")) == before
    third.rename(third.with_name("0123456789ab"))
    assert main([str(store.root)]) == 1
    assert (
        f"damaged: {third.with_name('0123456789ab')}: it is a different result: report "
        f"{third.name}" in capsys.readouterr().out
    )


def test_large_files_are_read_though_the_file_system_says_that_they_are_as_they_were(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr("meow_lightning.store.integrity.SMALL", 4)
    monkeypatch.setattr("meow_lightning.store.integrity.digest", lambda path: read.append(path.name))
    assert main([str(store.root)]) == 1
    assert read == ["weights"] * 3


def test_the_command_ends_with_one_line_where_there_is_no_store(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "meow_lightning.cli.verify_store", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path}/none is not a folder; pass the folder of a store, such as outputs/store\n"
