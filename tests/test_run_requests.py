"""Requests that arrive one after another, as their user runs them: every stage once, and the same after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "debug=fast", "logger=none", "trainer.parallel_stages=1", "limit=6", "method=grad_ascent", "protocol=sequential",
    "protocol.requests=3",
)  # fmt: skip


def start(outputs: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "run.py", *WORDS, f"outputs={outputs}"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(outputs: Path) -> str:
    process = start(outputs)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return out


def stored(outputs: Path, name: str) -> Any:
    (path,) = (outputs / "store" / "evaluate").glob(f"*/{name}")
    return json.loads(path.read_text())


def unlearned(outputs: Path) -> dict[str, Path]:
    """The finished models by label."""
    folders = (path for path in (outputs / "store" / "unlearn").glob("*") if (path / "manifest.json").is_file())
    return {json.loads((path / "manifest.json").read_text())["label"]: path for path in folders}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    outputs = tmp_path_factory.mktemp("requests")
    return outputs, run(outputs)


def test_every_request_is_measured_after_every_other_beside_all_at_once(finished: tuple[Path, str]) -> None:
    outputs, out = finished
    assert {*unlearned(outputs)} == {"request 1", "request 2", "request 3", "joint"}
    matrices = {each["name"]: each for each in stored(outputs, "sequence.json")}
    assert {"memo", "rouge_l_recall", "probability", "value_accuracy"} == {*matrices}
    forgotten = matrices["probability"]["forgotten"]
    assert [len(row) for row in forgotten["rows"]] == [3, 3, 3, 3]
    assert len(forgotten["joint"]) == len(forgotten["retain"]) == 3
    assert all(0 <= cell <= 1 for row in forgotten["rows"] for cell in row)
    results = stored(outputs, "results.json")
    numbers = results["values"]["unlearned"]
    assert numbers["sequence/probability/op"] == pytest.approx(sum(forgotten["rows"][3]) / 3)
    assert numbers["forget/probability"] == pytest.approx(1 - numbers["sequence/probability/op"])
    assert "3 requests one after another: forgotten (1 - MEMO)" in out
    assert "after request 3" in out
    (report,) = (outputs / "reports").glob("*-grad_ascent_sequential-*/report.html")
    assert "Requests one after another" in report.read_text()
    assert (report.parent / "figures" / "requests.svg").is_file()


def test_a_run_that_was_killed_between_requests_ends_with_the_same_numbers(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    before = finished[0] / "store"
    for stage in ("finetune", "score", "predict"):  # not what follows from a request
        for folder in (before / stage).glob("*"):
            label = json.loads((folder / "manifest.json").read_text())["label"]
            if "request" not in label and "unlearned" not in label and "joint" not in label:
                shutil.copytree(folder, tmp_path / "store" / stage / folder.name)
    process = start(tmp_path)
    deadline = time.time() + 120
    while not unlearned(tmp_path):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.time() < deadline, "no request was served"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(unlearned(tmp_path)) < 4
    first = {label: (path / "manifest.json").stat().st_mtime_ns for label, path in unlearned(tmp_path).items()}
    run(tmp_path)
    again = unlearned(tmp_path)
    assert {label: (again[label] / "manifest.json").stat().st_mtime_ns for label in first} == first, (
        "what was finished is not made again"
    )
    for name in ("results.json", "sequence.json"):
        assert stored(tmp_path, name) == stored(finished[0], name)
