"""Executes missing artifacts in dependency order, in parallel where possible, with locks and resume."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from meow_lightning.config.runtime import Runtime
from meow_lightning.errors import UserError
from meow_lightning.pipeline.origin import origin_entry
from meow_lightning.pipeline.runners import Handle, Inline, Job, Pool, Runner, StageError
from meow_lightning.pipeline.versions import code_digest, remember_code
from meow_lightning.pipeline.waiting import LockWaits
from meow_lightning.stages import stage
from meow_lightning.stages.base import StageContext
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import OTHERS, owner_only, restrict_to_owner
from meow_lightning.store.store import Store

PACKAGES = ("torch", "transformers", "pytorch-lightning", "tokenizers", "numpy", "scipy", "rouge-score")
POLL_SECONDS = 0.05  # between two polls of the running stages
REPORT_SECONDS = 0.5  # between two progress reports of a stage that runs in this process
SCRATCH = (
    "result.json",
    "spec.json",
    "job.log",
    "task.json",
    "error-*.json",
    "notes-*.jsonl",
    "part-*.jsonl",
    ".work-*",
)


class Watcher(Protocol):
    """An observer of the executor: the terminal, the tracker."""

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Observe the running stages and their folders; called a few times a second."""
        ...

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, computed: bool) -> None:
        """Observe that a result is available, either just computed or cached."""
        ...

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Observe that another process computes this result, and that this one waits for it."""
        ...

    def notice(self, text: str) -> None:
        """Receive a message for the user, one sentence."""
        ...


@dataclass
class _Running:
    artifact: Artifact
    handle: Handle
    lock: FileLock
    folder: Path
    code: str | None


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Collect the software versions behind a result: Python, packages, commit."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "packages": versions, **source_commit(Path(__file__).resolve())}


def source_commit(file: Path) -> dict[str, Any]:
    """Return the commit of a source file, and whether its work tree differs from it; null outside a checkout.

    Site-packages may lie inside the repository of another project, whose commit says nothing about this code.

    Args:
        file: Absolute path of a file of the package.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=file.parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", file.name)
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


class Executor:
    """Computes missing artifacts of a run and stores them.

    Args:
        store: The store of results.
        runtime: How stages compute.
        parallel_stages: Number of stages that run at once.
        threads: CPU threads per stage.
        watchers: Observers.

    Attributes:
        manifest_extras: Called with each new artifact; returns further entries for its manifest.
        run_tag: The tag of the run in progress, for processes that show its status.
    """

    def __init__(
        self, *, store: Store, runtime: Runtime, parallel_stages: int, threads: int, watchers: Sequence[Watcher]
    ) -> None:
        self.store, self.runtime, self.watchers = store, runtime, watchers
        self.parallel_stages, self.threads = parallel_stages, threads
        self.manifest_extras: Callable[[Artifact], dict[str, Any]] = lambda _: {}
        self.run_tag = ""
        self._runners: dict[str, Runner] = {}
        self._running: list[_Running] = []
        self._waits = LockWaits(store=store, notify=self._notify)

    def make(self, artifacts: Sequence[Artifact]) -> None:
        """Compute the artifacts that are not in the store.

        Args:
            artifacts: The artifacts of the goal, each after its needs.

        Raises:
            UserError: A stage raised one, or a result is missing with ``cache=readonly``.
            StageError: A stage failed.
        """
        available: set[str] = set()
        pending: list[Artifact] = []
        for artifact in artifacts:
            manifest = self.store.find(artifact)
            if manifest is not None and all(need.key in available for need in artifact.needs.values()):
                self._mark_cached(artifact, manifest, available)
            else:
                pending.append(artifact)
        if pending and self.store.cache == "readonly":
            missing = ", ".join(artifact.title + self._damaged(artifact) for artifact in pending)
            raise UserError(f"cache=readonly computes nothing, but these results are missing: {missing}; set cache=use")
        try:
            while pending or self._running:
                self._start(pending, available)
                self._poll(available)
        except StageError:
            self.close()  # a killed helper breaks its pool; the next run starts a new one
            raise
        finally:
            remember_code(self.store, private=any(artifact.private for artifact in artifacts))
            self._abandon()

    def _mark_cached(self, artifact: Artifact, manifest: Mapping[str, Any], available: set[str]) -> None:
        available.add(artifact.key)
        folder = self.store.path(artifact)
        if artifact.private and folder.stat().st_mode & OTHERS:  # an earlier version left results readable by everyone
            with suppress(OSError):  # owned by another user, or on a read-only disk
                restrict_to_owner(folder)
        for watcher in self.watchers:
            watcher.finished(artifact, manifest, folder, computed=False)

    def _start(self, pending: list[Artifact], available: set[str]) -> None:
        for artifact in list(pending):
            if any(need.key not in available for need in artifact.needs.values()):
                continue
            runner = self._runner(artifact)
            if len(self._running) >= runner.slots:
                continue
            lock = self._lock(artifact)
            if lock is None:
                continue
            pending.remove(artifact)
            # A lock left by a failure here would make the next run of this process wait for itself.
            with ExitStack() as failing:
                failing.callback(lock.release)
                # Another process may have finished it before the lock was acquired.
                manifest = self.store.find(artifact)
                if manifest is not None:
                    self._mark_cached(artifact, manifest, available)
                    continue
                self._running.append(self._begin(artifact, runner, lock))
                failing.pop_all()

    def _lock(self, artifact: Artifact) -> FileLock | None:
        """Acquire the lock of a result; ``None`` while another process holds it, polled less often over time."""
        if not self._waits.is_due(artifact):
            return None
        lock = self.store.lock(artifact)
        if lock is not None:
            self._waits.acquired(artifact)
        elif self._waits.record_refusal(artifact):
            for watcher in self.watchers:
                watcher.waiting(artifact, self.store.owner(artifact))
        return lock

    def _begin(self, artifact: Artifact, runner: Runner, lock: FileLock) -> _Running:
        folder = self.store.begin(artifact)
        if damage := self._damaged(artifact):
            self._notify(f"{artifact.title}{damage}; it is set aside and computed again")
        task = {
            "stage": artifact.stage, "label": artifact.label, "run": self.run_tag, "started": time.time(),
            **origin_entry(artifact),
        }  # fmt: skip
        with owner_only(artifact.private):
            write_json(folder / "task.json", task)
        self._report_running(also=(artifact, folder))
        spec, code = self._spec(artifact, folder), code_digest(artifact, self.store)
        with self._reporting_progress(artifact, folder) if isinstance(runner, Inline) else nullcontext():
            handle = runner.start(spec)
        return _Running(artifact, handle, lock, folder, code)

    @contextmanager
    def _reporting_progress(self, artifact: Artifact, folder: Path) -> Iterator[None]:
        """Report the progress of a stage from a second thread while the stage runs in this one."""
        ended = threading.Event()
        failed: list[Exception] = []

        def report() -> None:
            try:
                while not ended.wait(REPORT_SECONDS):
                    self._report_running(also=(artifact, folder))
            except Exception as error:  # noqa: BLE001 - raised below, in the main thread
                failed.append(error)

        reporter = threading.Thread(target=report, daemon=True)
        reporter.start()
        try:
            yield
        finally:
            ended.set()
            reporter.join()
        if failed:
            raise failed[0]

    def _damaged(self, artifact: Artifact) -> str:
        """Describe the damage of a stored result, to follow its title; empty for an intact or missing one."""
        why = self.store.damage(artifact)
        return f" (the stored result {artifact.key} is damaged: {why})" if why else ""

    def _notify(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.notice(text)

    def _spec(self, artifact: Artifact, folder: Path) -> dict[str, Any]:
        single_device = (
            Runtime(**{**vars(self.runtime), "devices": 1, "nodes": 1})
            if not stage(artifact.stage).distributed(artifact.inputs)
            else self.runtime
        )
        needs = {name: self.store.path(need) for name, need in artifact.needs.items()}
        work = StageContext(
            stage=artifact.stage, label=artifact.label, folder=folder, settings=artifact.settings, needs=needs,
            inputs=artifact.inputs, runtime=single_device,
        )  # fmt: skip
        return work.to_spec()

    def _runner(self, artifact: Artifact) -> Runner:
        kind = (
            "job"
            if self.runtime.devices > 1 and stage(artifact.stage).distributed(artifact.inputs)
            else "pool"
            if self.parallel_stages > 1
            else "inline"
        )
        if kind not in self._runners:
            self._runners[kind] = (
                Job(devices=self.runtime.devices, nodes=self.runtime.nodes, threads=self.threads) if kind == "job"
                else Pool(parallel_stages=self.parallel_stages, threads=self.threads) if kind == "pool"
                else Inline(threads=self.threads)
            )  # fmt: skip
        return self._runners[kind]

    def _poll(self, available: set[str]) -> None:
        self._report_running()
        ended = [running for running in self._running if running.handle.done()]
        if not ended:
            time.sleep(POLL_SECONDS)
        # Seal all of them, even if one failed: successful results are kept before the failure propagates.
        with ExitStack() as sealing:
            for running in reversed(ended):
                sealing.callback(self._seal, running, available)

    def _seal(self, running: _Running, available: set[str]) -> None:
        self._running.remove(running)
        try:
            record = running.handle.result()
            for path in list(running.folder.iterdir()):
                if any(fnmatch(path.name, name) for name in SCRATCH):
                    path.unlink()
            own = {"code": running.code, **origin_entry(running.artifact)}
            extras = {**provenance(), **own, **self.manifest_extras(running.artifact)}
            manifest = self.store.finish(running.artifact, {**record, **extras})
        finally:
            running.lock.release()
        available.add(running.artifact.key)
        for watcher in self.watchers:
            watcher.finished(running.artifact, manifest, self.store.path(running.artifact), computed=True)

    def _report_running(self, also: tuple[Artifact, Path] | None = None) -> None:
        now = {running.artifact.key: (running.artifact, running.folder) for running in self._running}
        if also is not None:
            now[also[0].key] = also
        for watcher in self.watchers:
            watcher.running(now)

    def _abandon(self) -> None:
        """End the running stages after a failure or an interrupt; the next run resumes their partial work."""
        if self._running:
            self.close()
        for running in self._running:
            running.lock.release()
        self._running.clear()

    def close(self) -> None:
        """Shut down the helper processes."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
