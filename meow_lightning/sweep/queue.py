"""Job queue on a cluster or this machine, through submitit: submits jobs, watches them, detects killed ones."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meow_lightning.config.training_options import Launcher
from meow_lightning.errors import UserError
from meow_lightning.pipeline.runners import StageError
from meow_lightning.sweep.jobs import Task, read_outcome

MAX_ARRAY_SIZE = 1000  # SLURM's default MaxArraySize is 1001
OUTCOME_TIMEOUT = 15.0  # seconds until the outcome file of an ended job is visible on a network file system
SQUEUE = ("squeue", "--noheader", "--array", "--format=%i")
UNKNOWN_JOB = "Invalid job id"  # squeue's error after it has forgotten all of the jobs


def parameters(launcher: Launcher, *, name: str) -> dict[str, Any]:
    """Convert ``hydra.launcher`` to parameters of submitit; nulls are left to the cluster.

    Args:
        launcher: ``hydra.launcher``.
        name: Name of the jobs.
    """
    shared = {"timeout_min": launcher.timeout_min, "stderr_to_stdout": True}
    if launcher.cluster != "slurm":
        return {**shared, "name": name}
    optional = {
        "slurm_partition": launcher.partition, "slurm_account": launcher.account, "slurm_qos": launcher.qos,
        "slurm_constraint": launcher.constraint, "gpus_per_node": launcher.gpus_per_node or None,
        "cpus_per_task": launcher.cpus_per_task, "mem_gb": launcher.mem_gb,
        "slurm_setup": list(launcher.setup) or None,
        "slurm_additional_parameters": dict(launcher.extra) or None,
    }  # fmt: skip
    return {
        **shared, **{key: value for key, value in optional.items() if value is not None}, "name": name,
        "nodes": launcher.nodes, "tasks_per_node": 1, "slurm_array_parallelism": launcher.array_parallelism,
        "slurm_signal_delay_s": launcher.signal_delay_s,
        # On several nodes, the first process starts the work on all of them; the others exit at once.
        "slurm_srun_args": ["--wait=0"],
    }  # fmt: skip


@dataclass
class _Running:
    job: Any
    slot: int
    gone_since: float | None = None  # when the job was first seen gone without an outcome file


class Queue:
    """Runs tasks as jobs.

    Args:
        launcher: ``hydra.launcher``.
        name: Name of the jobs.
        notify: Called with each line for the user.
    """

    def __init__(self, launcher: Launcher, *, name: str, notify: Callable[[str], None]) -> None:
        import submitit

        self.launcher, self.notify = launcher, notify
        self.slurm = launcher.cluster == "slurm"
        folder = Path(launcher.folder).resolve() / "%j"
        special = {"slurm_max_num_timeout": launcher.max_num_timeout} if self.slurm else {}
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=launcher.cluster, **special)
        except RuntimeError as error:
            raise UserError(
                "hydra/launcher=slurm requires sbatch, which is not installed on this machine: start the command on a "
                "login node, or set hydra/launcher=local"
            ) from error
        self._executor.update_parameters(**parameters(launcher, name=name))
        self._every = 2.0 if self.slurm else 0.2  # seconds between two polls

    def run(self, tasks: Sequence[Task], *, label: str) -> list[Exception | None]:
        """Run all tasks; returns the error of each, ``None`` for those that succeeded.

        Args:
            tasks: The tasks.
            label: Description of the tasks for messages to the user.
        """
        errors: list[Exception | None] = [None] * len(tasks)
        waiting, running, done = list(range(len(tasks))), dict[int, _Running](), 0
        try:
            while waiting or running:
                waiting = self._start(tasks, waiting, running)
                for number in self._ended(tasks, running):
                    errors[number] = self._result(tasks[number], running.pop(number).job)
                    done += 1
                    outcome = "done" if errors[number] is None else "failed"
                    self.notify(f"{label} {done} of {len(tasks)} {outcome}: {tasks[number].name}")
                if running:
                    time.sleep(self._every)
        except BaseException:
            # On a cluster, the jobs continue, and the same command finds their results.
            for each in () if self.slurm else running.values():
                each.job.cancel()
            raise
        return errors

    def _start(self, tasks: Sequence[Task], waiting: list[int], running: dict[int, _Running]) -> list[int]:
        """Submit as many tasks as may run at once (all of them on a cluster); returns the rest."""
        if self.slurm:
            for first in range(0, len(waiting), MAX_ARRAY_SIZE):
                numbers = waiting[first : first + MAX_ARRAY_SIZE]
                jobs = self._array([tasks[number] for number in numbers])
                running |= {number: _Running(job, 0) for number, job in zip(numbers, jobs, strict=True)}
            return []
        taken = {each.slot for each in running.values()}
        free = [slot for slot in range(self.launcher.array_parallelism) if slot not in taken]
        for number, slot in zip(waiting, free, strict=False):
            _remove_outcome(tasks[number])
            job = self._executor.submit(replace(tasks[number], visible=self._gpus(tasks[number], slot)))
            running[number] = _Running(job, slot)
        return waiting[len(free) :]

    def _array(self, tasks: Sequence[Task]) -> list[Any]:
        for task in tasks:
            _remove_outcome(task)
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(task) for task in tasks]
        except Exception as error:
            if type(error).__name__ != "FailedJobError":
                raise
            raise UserError(f"sbatch rejected the jobs: {' '.join(str(error).split())[-300:]}") from error
        self.notify(f"{len(jobs)} jobs submitted: {jobs[0].job_id.partition('_')[0]}")
        return jobs

    def _gpus(self, task: Task, slot: int) -> str | None:
        if not self.launcher.gpus_per_node:
            return None
        devices = task.config.trainer.devices
        return ",".join(map(str, range(slot * devices, (slot + 1) * devices)))

    def _ended(self, tasks: Sequence[Task], running: Mapping[int, _Running]) -> list[int]:
        """List the tasks that wrote an outcome file, or have been gone for too long to write one."""
        for folder in {Path(tasks[number].outcome).parent for number in running}:
            os.utime(folder)  # makes an NFS client drop its cache of missing files
        open_ = [number for number in running if not Path(tasks[number].outcome).exists()]
        gone = self._gone([running[number].job for number in open_])
        for number in open_:
            each = running[number]
            each.gone_since = (each.gone_since or time.monotonic()) if each.job.job_id in gone else None
        late = {n for n in open_ if (since := running[n].gone_since) and time.monotonic() - since > OUTCOME_TIMEOUT}
        return [number for number in running if number not in open_ or number in late]

    def _gone(self, jobs: Sequence[Any]) -> set[str]:
        """List the ids of jobs that are neither running nor pending; empty while the cluster does not answer."""
        if not jobs:
            return set()
        if not self.slurm:
            return {job.job_id for job in jobs if job.get_info()["jobState"] != "RUNNING"}
        arrays = sorted({job.job_id.partition("_")[0] for job in jobs})
        answer = subprocess.run([*SQUEUE, f"--jobs={','.join(arrays)}"], capture_output=True, text=True)
        if answer.returncode and UNKNOWN_JOB not in answer.stderr:
            return set()
        return {job.job_id for job in jobs} - set(answer.stdout.split())

    def _result(self, task: Task, job: Any) -> Exception | None:
        path = Path(task.outcome)
        if path.exists():
            return read_outcome(path)
        return StageError(
            f"the job {job.job_id} was killed or cancelled (out of memory, time limit, scancel?); rerun the same "
            f"command to continue. Its output: {job.paths.stdout}"
        )


def _remove_outcome(task: Task) -> None:
    Path(task.outcome).parent.mkdir(parents=True, exist_ok=True)
    Path(task.outcome).unlink(missing_ok=True)
