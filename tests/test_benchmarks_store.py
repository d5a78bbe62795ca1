"""The benchmark of the store runs from beginning to end and says what is wrong; speed is not asked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.store.integrity import file_entry, seal
from meow_lightning.store.store import Store

FOLDER = Path(__file__).parents[1] / "benchmarks"
RUNS, GROUPS = 12, 4
RESULTS = 5 * RUNS + 2 * 2 + 6 * GROUPS  # two models with base and target, six more results of every group


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("store")


def ran(*words: str) -> list[dict[str, str]]:
    sizes = ["--runs", str(RUNS), "--groups", str(GROUPS), "--processes", "3"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "store.py"), *sizes, *words],
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_processes_that_share_a_store_make_every_result_once(tmp_path: Path) -> None:
    dealt, all_of_them, find = ran("--folder", str(tmp_path))
    assert [row["way"] for row in (dealt, all_of_them, find)] == ["make dealt", "make all", "find"]
    assert [int(row["made"]) for row in (dealt, all_of_them, find)] == [RESULTS, RESULTS, 0]
    assert int(dealt["made"]) + int(dealt["found"]) == 13 * RUNS
    assert int(all_of_them["made"]) + int(all_of_them["found"]) == int(find["found"]) == 3 * 13 * RUNS
    assert [row["twice"] for row in (dealt, all_of_them, find)] == ["0"] * 3
    assert list(tmp_path.iterdir()) == []


def test_processes_killed_in_the_middle_lose_nothing_that_was_finished() -> None:
    dealt, all_of_them, find = ran("--kills", "4", "--span", "0.5", "--work", "0.02")
    assert [row["killed"] for row in (dealt, all_of_them, find)] == ["4", "4", "0"]
    assert int(dealt["twice"]) <= 4
    assert int(all_of_them["twice"]) <= 4
    assert find["made"] == "0"


def test_a_run_has_eight_shared_results_and_five_of_its_own(bench: Any) -> None:
    one, same, other = ({each.key for each in bench.artifacts_of(number, 4)} for number in (0, 4, 1))
    assert (len(one), len(one & same), len(one & other)) == (13, 8, 0)
    assert len({each.key for number in range(RUNS) for each in bench.artifacts_of(number, GROUPS)}) == RESULTS


@pytest.fixture
def whole(bench: Any, tmp_path: Path) -> Any:
    """A task of one run whose results are all there, made by this process, number 7."""
    task = bench.Task(
        root=tmp_path / "store", notes=tmp_path / "notes", runs=1, groups=1, processes=1, files=0, work=0.0
    )
    task.notes.mkdir()
    store, made = Store(root=task.root, cache="use"), {}
    for artifact in bench.artifacts_of(0, 1):
        needs = [made[artifact.needs[name].key] for name in sorted(artifact.needs)]
        made[artifact.key] = bench.outcome(artifact.key, artifact.settings, needs)
        (store.begin(artifact) / "made.json").write_text(json.dumps(made[artifact.key]))
        store.finish(artifact, {})
    return task


def noted(bench: Any, task: Any) -> list[Any]:
    return [bench.Note(7, each.key, 1.0) for each in bench.artifacts_of(0, 1)]


def test_nothing_is_wrong_with_what_is_right(bench: Any, whole: Any) -> None:
    assert bench.wrong(whole, noted(bench, whole), []) == []


@pytest.mark.parametrize("killed", [False, True])
def test_work_done_twice_is_noticed_but_for_what_a_killed_process_was_at(bench: Any, whole: Any, killed: bool) -> None:
    begun = noted(bench, whole)
    kills = [bench.Kill(7, frozenset(), 2.0)] if killed else []
    last, first = begun[-1].key, begun[0].key
    said = bench.wrong(whole, [*begun, bench.Note(8, last, 3.0)], kills)
    assert said == ([] if killed else [f"{last} was made 2 times"])
    assert bench.wrong(whole, [*begun, bench.Note(8, first, 3.0)], kills) == [f"{first} was made 2 times"]


def test_a_finished_result_that_is_made_again_after_a_kill_is_noticed(bench: Any, whole: Any) -> None:
    begun = noted(bench, whole)
    key = begun[-1].key
    kills = [bench.Kill(7, frozenset([key]), 2.0)]
    said = bench.wrong(whole, [*begun, bench.Note(8, key, 3.0)], kills)
    assert said == [f"{key} was finished before a kill and made again after it"]


def remove(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def another(folder: Path) -> None:
    path = folder / "made.json"
    path.write_text('"something else"')
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["made.json"] = file_entry(path)
    manifest["seal"] = seal(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def leave(folder: Path) -> None:
    folder.with_name(f"{folder.name}.partial").mkdir()


@pytest.mark.parametrize(
    ("damage", "text"),
    [(remove, "{} is missing or damaged"), (another, "{} holds something else than it should"),
     (leave, "{}.partial was left behind")],
)  # fmt: skip
def test_unexpected_files_in_a_store_are_reported(
    bench: Any, whole: Any, damage: Callable[[Path], None], text: str
) -> None:
    folder = Store(root=whole.root, cache="use").path(bench.artifacts_of(0, 1)[-1])
    damage(folder)
    assert bench.wrong(whole, noted(bench, whole), []) == [text.format(folder)]
