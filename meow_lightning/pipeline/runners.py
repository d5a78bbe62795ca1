"""Three runners for the task of a stage behind one interface: start it, poll it, fetch its result.

``Inline`` runs it in this process, ``Pool`` in a few persistent helper processes, ``Job`` in N new processes under
torch.distributed.run. A helper pays for its imports once, a job every time; in return, memory, crashes and the process
group of a job end with it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from meow_lightning.distributed import DRIVER, LAUNCHER_VARIABLES
from meow_lightning.errors import UserError
from meow_lightning.pipeline import worker
from meow_lightning.store.folders import owner_only

Spec = Mapping[str, Any]
LOG_TAIL = 4000  # characters
SIGNAL = re.compile(r"Signal \d+ \(\w+\)")  # how torchrun reports a process that was killed, such as by lack of memory
GRACE = 10.0  # seconds that a process gets to end by itself

KILLED = (
    "{what} was killed from outside (out of memory?); run the same command again to continue from the finished results"
)


class StageError(Exception):
    """A failure of a stage that is not a :class:`UserError`; the text holds its traceback."""


class Handle(Protocol):
    """A started task."""

    def done(self) -> bool:
        """Whether it has ended, with or without an error."""
        ...

    def result(self) -> dict[str, Any]:
        """Return the entries for its manifest, or raise the error of the task."""
        ...


class Runner(Protocol):
    """An interface to run tasks."""

    slots: int

    def start(self, spec: Spec) -> Handle:
        """Start one task."""
        ...

    def close(self) -> None:
        """End the running tasks and release all resources."""
        ...


def clear_launcher_env() -> None:
    """Remove the variables of a launcher around this program, so that no stage joins its process group."""
    for name in LAUNCHER_VARIABLES:
        os.environ.pop(name, None)


class _Finished:
    def __init__(self, result: dict[str, Any]) -> None:
        self._result = result

    def done(self) -> bool:
        return True

    def result(self) -> dict[str, Any]:
        return self._result


class Inline:
    """Runs tasks in this process, one after the other."""

    slots = 1

    def __init__(self, *, threads: int) -> None:
        clear_launcher_env()
        if "torch" not in sys.modules:
            os.environ["OMP_NUM_THREADS"] = str(threads)
        worker.silence_third_party()

    def start(self, spec: Spec) -> Handle:
        """Run the task to its end."""
        return _Finished(worker.run_stage(spec))

    def close(self) -> None:
        """Do nothing: this runner holds no resources."""


class _Pooled:
    def __init__(self, future: Future[dict[str, Any]], stage: str) -> None:
        self._future, self._stage = future, stage

    def done(self) -> bool:
        return self._future.done()

    def result(self) -> dict[str, Any]:
        try:
            return self._future.result()
        except BrokenProcessPool as error:
            raise StageError(KILLED.format(what=f"the process that ran {self._stage}")) from error


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Keep new helpers from importing the caller's script, which would start its run again.

    A script without ``if __name__ == "__main__":`` could otherwise not call :func:`meow_lightning.run`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Pool:
    """Runs up to ``parallel_stages`` tasks at once, each in a helper process with ``threads`` CPU threads."""

    def __init__(self, *, parallel_stages: int, threads: int) -> None:
        self.slots = parallel_stages
        clear_launcher_env()
        # Read by the helpers' OpenMP when they import torch; spinning threads would fight for the shared cores.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        self._pool = ProcessPoolExecutor(
            max_workers=parallel_stages, mp_context=multiprocessing.get_context("spawn"),
            initializer=worker.init_helper,
            initargs=(os.getpid(), threads),
        )  # fmt: skip

    def start(self, spec: Spec) -> Handle:
        """Hand the task to a free helper."""
        try:
            with _without_main_module():
                return _Pooled(self._pool.submit(worker.run_stage, spec), spec["stage"])
        except BrokenProcessPool as error:
            raise StageError(KILLED.format(what=f"a helper process for {spec['stage']}")) from error

    def close(self) -> None:
        """End all helpers, including busy ones; the next run resumes their work."""
        helpers = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for helper in helpers:
            helper.terminate()
        # The caller releases the locks next, so no helper may still be writing then.
        for helper in helpers:
            helper.join(timeout=GRACE)
            helper.kill()


def _summary(error: Mapping[str, Any]) -> str:
    """Format the error of a process as one line."""
    return f"{error['kind']}: {error['message'].partition(chr(10))[0]}"


class _Job:
    def __init__(self, process: subprocess.Popen[bytes], folder: Path, stage: str) -> None:
        self._process, self._folder, self._stage = process, folder, stage

    def done(self) -> bool:
        return self._process.poll() is not None

    def result(self) -> dict[str, Any]:
        path = self._folder / "result.json"
        if self._process.returncode == 0 and path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        # The first to fail is the cause; the others fail because they wait for it.
        paths = sorted(self._folder.glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
        errors = {path.stem.removeprefix("error-"): json.loads(path.read_text(encoding="utf-8")) for path in paths}
        for error in errors.values():
            if error["kind"] == "user":
                raise UserError(error["message"])
        log = (self._folder / "job.log").read_text(encoding="utf-8", errors="replace")
        causes = [f"process {process}, {_summary(error)}" for process, error in errors.items()] or SIGNAL.findall(log)
        raise StageError(
            f"the job for {self._stage} ended with status {self._process.returncode}: "
            + ("; ".join(dict.fromkeys(causes)) or "no process recorded its error, see the end of its log")
            + "\n"
            + "\n".join([error["traceback"] for error in errors.values()] or [log[-LOG_TAIL:]])
        )

    def terminate(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(timeout=GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()


def launch_command(devices: int, nodes: int) -> list[str]:
    """Build the command that starts the processes of a distributed job.

    Args:
        devices: Total number of processes, one per device.
        nodes: Number of machines, each with an equal share of the processes.

    Raises:
        UserError: ``nodes`` is above 1 outside a SLURM job.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={devices // nodes}"]
    if nodes == 1:
        return [*torchrun, "--standalone"]
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"trainer.nodes={nodes} needs a job on as many machines; run with -m hydra/launcher=slurm")
    host = socket.gethostname()
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    return [
        "srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", *torchrun,
        f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={host}:{port}", f"--rdzv-id={host}-{port}",
    ]  # fmt: skip


class Job:
    """Runs one task at a time as a torch.distributed job, on this machine or on all machines of a SLURM job.

    Args:
        devices: Total number of processes, one per device.
        nodes: Number of machines; this one is the first, and ``srun`` starts the processes on the others.
        threads: CPU threads per process.
    """

    slots = 1

    def __init__(self, *, devices: int, nodes: int, threads: int) -> None:
        clear_launcher_env()
        self._devices, self._nodes, self._threads = devices, nodes, threads
        self._running: list[_Job] = []

    def start(self, spec: Spec) -> Handle:
        """Write the task and start the job; its output goes to ``job.log`` in the task's folder."""
        folder = Path(spec["folder"])
        for old in (*folder.glob("error-*.json"), folder / "result.json"):
            old.unlink(missing_ok=True)
        path, private = folder / "spec.json", bool(spec["inputs"].get("private"))
        task = json.dumps(spec).encode()
        with owner_only(private):
            path.write_bytes(task)
        digest = hashlib.sha256(task).hexdigest()
        command = [
            *launch_command(self._devices, self._nodes),
            "-m",
            "meow_lightning.pipeline.worker",
            str(path),
            digest,
        ]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self._threads),
            "OMP_WAIT_POLICY": "passive",
            DRIVER: f"{os.getpid()}@{socket.gethostname()}",
        }
        with owner_only(private), (folder / "job.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        job = _Job(process, folder, spec["stage"])
        self._running.append(job)
        return job

    def close(self) -> None:
        """End the running jobs."""
        for job in self._running:
            job.terminate()
        self._running.clear()
