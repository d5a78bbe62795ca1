"""Sweeps through a real SLURM, disturbed and undisturbed; and the way of its jobs without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_run import FAST, run, start

JOBS = (
    "hydra/launcher=slurm", "hydra.launcher.mem_gb=null", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.gpus_per_node=0", "hydra.launcher.timeout_min=30",
)  # fmt: skip
WORDS = ("-m", *FAST, "callbacks.checkpoint_seconds=0", "goal=evaluate")


def slurm_answers() -> bool:
    if shutil.which("sbatch") is None:
        return False
    return subprocess.run(["sinfo", "--noheader"], capture_output=True).returncode == 0


needs_slurm = pytest.mark.skipif(
    not slurm_answers(), reason="there is no SLURM here (packages slurm-wlm and munge, and a running slurmctld)"
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all that goes before unlearning."""
    outputs = tmp_path_factory.mktemp("known")
    run(outputs, *FAST, "method=none", "goal=evaluate")
    return outputs / "store"


def numbers(outputs: Path) -> list[dict]:
    """The unlearned model's numbers of every run, in the order of their keys."""
    paths = sorted((outputs / "store" / "evaluate").glob("*/results.json"))
    return [json.loads(path.read_text())["values"]["unlearned"] for path in paths]


def jobs() -> dict[str, str]:
    """Number and name of every job that waits or runs."""
    said = subprocess.run(["squeue", "--noheader", "--array", "--format=%i %t"], capture_output=True, text=True).stdout
    return dict(line.split() for line in said.splitlines())


def wait_for(found: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.time() + seconds
    while not found():
        assert time.time() < deadline, "the moment never came"
        time.sleep(0.05)


@pytest.mark.slow
def test_jobs_on_this_machine_give_the_numbers_of_a_sweep_without_them(known: Path, tmp_path: Path) -> None:
    for name in ("jobs", "plain"):
        shutil.copytree(known, tmp_path / name / "store")
    words = (*WORDS, "method=none,grad_ascent", "optim.epochs=2,3")
    out = run(tmp_path / "jobs", *words, "hydra/launcher=local")
    assert "2 of 4 runs are already finished" in out
    assert "run 2 of 2 done" in out
    run(tmp_path / "plain", *words)
    assert numbers(tmp_path / "jobs") == numbers(tmp_path / "plain")
    again = run(tmp_path / "jobs", *words, "hydra/launcher=local")
    assert "4 of 4 runs are already finished" in again
    assert "run 1" not in again


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_others_go_on(known: Path, tmp_path: Path) -> None:
    shutil.copytree(known, tmp_path / "store")
    process = start(
        tmp_path,
        *WORDS,
        "hydra/launcher=local",
        "method=grad_ascent",
        "optim.lr=1",
        "optim.epochs=60",
        "optim.weight_decay=0,100",
    )
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "1 of 2 runs failed: optim.weight_decay=100" in err
    assert "diverged" in out
    assert len(numbers(tmp_path)) == 2  # the one that ended, beside the store's own


@needs_slurm
@pytest.mark.slurm
@pytest.mark.ddp
def test_an_array_of_two_processes_each_gives_the_numbers_of_one(known: Path, tmp_path: Path) -> None:
    for name in ("jobs", "plain"):
        shutil.copytree(known, tmp_path / name / "store")
    words = (*WORDS, "method=grad_ascent", "seed=0", "optim.epochs=2,3")
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    out = run(tmp_path / "jobs", *words, *JOBS, *two)
    assert "2 jobs submitted" in out
    run(tmp_path / "plain", *words)
    for one, other in zip(numbers(tmp_path / "jobs"), numbers(tmp_path / "plain"), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert not jobs()


@needs_slurm
@pytest.mark.slurm
def test_requeued_and_cancelled_jobs_lose_nothing(known: Path, tmp_path: Path) -> None:
    for name in ("jobs", "plain"):
        shutil.copytree(known, tmp_path / name / "store")
    words = (*WORDS, "method=grad_ascent", "optim.epochs=300", "seed=0")
    store = tmp_path / "jobs" / "store"

    def training(since: float = 0.0) -> bool:
        return any(path.stat().st_mtime > since for path in store.glob("unlearn/*.partial/resume/last.ckpt"))

    first = start(tmp_path / "jobs", *words, *JOBS)
    wait_for(training)
    (number,) = jobs()
    subprocess.run(["scancel", number], check=True)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 1, out + err
    assert "was killed or cancelled (out of memory" in out
    assert training()  # what it had done is there

    second = start(tmp_path / "jobs", *words, *JOBS)
    # From outside, as a more important job would; then as a cluster tells a job that its time is nearly over.
    for disturb in (["scontrol", "requeue"], ["scancel", "--signal=USR2"]):
        begun = time.time()
        wait_for(lambda: training(begun))  # noqa: B023 - asked at once
        (number,) = jobs()
        subprocess.run([*disturb, number], check=True)
        wait_for(lambda: "R" not in jobs().values())
    out, err = second.communicate(timeout=300)
    assert second.returncode == 0, out + err
    run(tmp_path / "plain", *words)
    assert numbers(tmp_path / "jobs") == numbers(tmp_path / "plain")


SRUN = """#!/bin/bash
# Stands in for srun: starts what it is given once per node, all of them on this machine.
nodes=1
while [[ $1 == --* ]]; do
  [[ $1 == --nodes=* ]] && nodes=${1#*=}
  shift
done
for ((node = 0; node < nodes; node++)); do "$@" & done
status=0
for job in $(jobs -p); do wait "$job" || status=$?; done
exit $status
"""


@pytest.mark.slow
@pytest.mark.ddp
def test_two_machines_meet_and_give_the_numbers_of_one(
    known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("two", "plain"):
        shutil.copytree(known, tmp_path / name / "store")
    words = (*FAST, "goal=evaluate", "method=grad_ascent")
    run(tmp_path / "plain", *words)
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    run(tmp_path / "two", *words, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.nodes=2")
    (manifest,) = (tmp_path / "two" / "store" / "unlearn").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["devices"] == 2
    for one, other in zip(numbers(tmp_path / "two"), numbers(tmp_path / "plain"), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_several_machines_need_a_job(known: Path, tmp_path: Path) -> None:
    shutil.copytree(known, tmp_path / "store")
    words = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.nodes=2", "method=grad_ascent")
    process = start(tmp_path, *FAST, *words)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "trainer.nodes=2 needs a job on as many machines; run with -m hydra/launcher=slurm" in err
