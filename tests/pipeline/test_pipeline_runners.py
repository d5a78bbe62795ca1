"""What is reported of a distributed job that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from meow_lightning.pipeline.runners import StageError, _Job


def ended(folder: Path, status: int = 1, log: str = "") -> _Job:
    (folder / "job.log").write_text(log)
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"])
    process.wait()
    return _Job(process, folder, "unlearn")


def failed(folder: Path, process: int, kind: str, message: str, *, at: int) -> None:
    path = folder / f"error-{process}.json"
    path.write_text(json.dumps({"kind": kind, "message": message, "traceback": f"Traceback of {process}"}))
    os.utime(path, (at, at))


def test_the_process_that_failed_first_is_named_first_with_its_error(tmp_path: Path) -> None:
    failed(tmp_path, 0, "RuntimeError", "Connection closed by peer\nmore", at=20)
    failed(tmp_path, 1, "KeyError", "'rows'", at=10)
    with pytest.raises(StageError) as caught:
        ended(tmp_path).result()
    first, *rest = str(caught.value).splitlines()
    assert first == (
        "the job for unlearn ended with status 1: process 1, KeyError: 'rows'; "
        "process 0, RuntimeError: Connection closed by peer"
    )
    assert rest == ["Traceback of 1", "Traceback of 0"]


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("  traceback : Signal 9 (SIGKILL) received by PID 7\n" * 2, "Signal 9 (SIGKILL)"),
        ("a port is taken\n", "no process recorded its error, see the end of its log"),
    ],
)
def test_without_a_recorded_error_the_log_is_shown(tmp_path: Path, log: str, cause: str) -> None:
    with pytest.raises(StageError) as caught:
        ended(tmp_path, log=log).result()
    assert str(caught.value).splitlines()[0] == f"the job for unlearn ended with status 1: {cause}"
    assert str(caught.value).endswith(log)
