"""Makes what a goal lacks: in order, side by side where that is free, under locks, resuming what was left undone."""

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
from meow_lightning.pipeline.runners import Handle, Inline, Job, Pool, Runner, StageError
from meow_lightning.pipeline.waiting import Waits
from meow_lightning.stages import distributed
from meow_lightning.stages.base import Work
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import OTHERS, close_to_others, owner_only
from meow_lightning.store.store import Store

PACKAGES = ("torch", "transformers", "pytorch-lightning", "tokenizers", "numpy", "scipy", "rouge-score")
LOOK = 0.05  # seconds between two looks at what runs
TOLD = 0.5  # seconds between two words about what runs in this process itself
SCRATCH = ("made.json", "spec.json", "job.log", "task.json", "error-*.json", "told-*.jsonl", "part-*.jsonl", ".work-*")


class Watcher(Protocol):
    """Who is told what happens: the terminal, the tracker."""

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """These are being made now, in these folders; called a few times a second."""
        ...

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, made: bool) -> None:
        """A result is there: just made, or found."""
        ...

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Another process is making this result; this one waits for it."""
        ...

    def notice(self, text: str) -> None:
        """Something that whoever runs the program should know, in a sentence."""
        ...


@dataclass
class _Running:
    artifact: Artifact
    handle: Handle
    lock: FileLock
    folder: Path


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """What made a result besides its settings: Python, packages, commit."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), "packages": versions, **source_commit(Path(__file__).resolve())}


def source_commit(file: Path) -> dict[str, Any]:
    """The commit that a source file belongs to, and whether its work tree differs from it; null outside a checkout.

    Site-packages may lie inside the repository of another project, whose commit says nothing about this code.

    Args:
        file: Absolute path of a file of the package.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=file.parent, capture_output=True, text=True, check=True).stdout

    try:
        git("ls-files", "--error-unmatch", file.name)
        return {"commit": git("rev-parse", "HEAD").strip(), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


class Executor:
    """Makes artifacts.

    Args:
        store: Where results are.
        runtime: How stages compute.
        jobs: Stages at once.
        threads: CPU threads per stage.
        watchers: Who is told.

    ``remark`` may be set to what each new manifest is to keep besides, ``cell`` to whose run it is, for who watches.
    """

    def __init__(self, *, store: Store, runtime: Runtime, jobs: int, threads: int, watchers: Sequence[Watcher]) -> None:
        self.store, self.runtime, self.jobs, self.threads, self.watchers = store, runtime, jobs, threads, watchers
        self.remark: Callable[[Artifact], dict[str, Any]] = lambda _: {}
        self.cell = ""
        self._runners: dict[str, Runner] = {}
        self._running: list[_Running] = []
        self._waits = Waits(store=store, say=self._notice)

    def make(self, artifacts: Sequence[Artifact]) -> None:
        """Make all of these that are not in the store; the list holds what each needs before it.

        Raises:
            UserError: A stage found a user's mistake, or ``cache=readonly`` and something lacks.
            StageError: A stage broke.
        """
        there: set[str] = set()
        pending: list[Artifact] = []
        for artifact in artifacts:
            manifest = self.store.find(artifact)
            if manifest is not None and all(need.key in there for need in artifact.needs.values()):
                self._found(artifact, manifest, there)
            else:
                pending.append(artifact)
        if pending and self.store.cache == "readonly":
            lacking = ", ".join(artifact.title + self._damaged(artifact) for artifact in pending)
            raise UserError(f"cache=readonly makes nothing, and the store lacks: {lacking}; run again with cache=use")
        try:
            while pending or self._running:
                self._start(pending, there)
                self._poll(there)
        except StageError:
            self.close()  # a helper that was killed takes its pool with it; the next cell gets a new one
            raise
        finally:
            self._abandon()

    def _found(self, artifact: Artifact, manifest: Mapping[str, Any], there: set[str]) -> None:
        there.add(artifact.key)
        folder = self.store.path(artifact)
        if artifact.private and folder.stat().st_mode & OTHERS:  # made by a version that left results open to all
            with suppress(OSError):  # another user's, or a disk that is only to be read
                close_to_others(folder)
        for watcher in self.watchers:
            watcher.finished(artifact, manifest, folder, made=False)

    def _start(self, pending: list[Artifact], there: set[str]) -> None:
        for artifact in list(pending):
            if any(need.key not in there for need in artifact.needs.values()):
                continue
            runner = self._runner(artifact)
            if len(self._running) >= runner.slots:
                continue
            lock = self._lock(artifact)
            if lock is None:
                continue
            pending.remove(artifact)
            # A lock that outlived a failure here would make the next cell of this process wait for itself.
            with ExitStack() as failing:
                failing.callback(lock.release)
                # Another process may have finished it between the first look and the lock.
                manifest = self.store.find(artifact)
                if manifest is not None:
                    self._found(artifact, manifest, there)
                    continue
                self._running.append(self._begin(artifact, runner, lock))
                failing.pop_all()

    def _lock(self, artifact: Artifact) -> FileLock | None:
        """The lock of a result, ``None`` while another process makes it; asked for the less often the longer it is."""
        if not self._waits.due(artifact):
            return None
        lock = self.store.lock(artifact)
        if lock is not None:
            self._waits.over(artifact)
        elif self._waits.refused(artifact):
            for watcher in self.watchers:
                watcher.waiting(artifact, self.store.owner(artifact))
        return lock

    def _begin(self, artifact: Artifact, runner: Runner, lock: FileLock) -> _Running:
        folder = self.store.begin(artifact)
        if damage := self._damaged(artifact):
            self._notice(f"{artifact.title}{damage}; it is set aside and made anew")
        task = {"stage": artifact.stage, "label": artifact.label, "cell": self.cell, "started": time.time()}
        with owner_only(artifact.private):
            write_json(folder / "task.json", task)
        self._tell_running(also=(artifact, folder))
        spec = self._spec(artifact, folder)
        with self._telling(artifact, folder) if isinstance(runner, Inline) else nullcontext():
            handle = runner.start(spec)
        return _Running(artifact, handle, lock, folder)

    @contextmanager
    def _telling(self, artifact: Artifact, folder: Path) -> Iterator[None]:
        """Tell how far a stage is while this thread itself is at it."""
        ended = threading.Event()
        failed: list[Exception] = []

        def tell() -> None:
            try:
                while not ended.wait(TOLD):
                    self._tell_running(also=(artifact, folder))
            except Exception as error:  # noqa: BLE001 - raised below, where somebody hears it
                failed.append(error)

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
        if failed:
            raise failed[0]

    def _damaged(self, artifact: Artifact) -> str:
        """What is wrong with a stored result, to be put behind its title; empty where nothing is."""
        why = self.store.damage(artifact)
        return f" (what is stored as {artifact.key} is damaged: {why})" if why else ""

    def _notice(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.notice(text)

    def _spec(self, artifact: Artifact, folder: Path) -> dict[str, Any]:
        alone = (
            Runtime(**{**vars(self.runtime), "devices": 1, "nodes": 1})
            if not distributed(artifact.stage, artifact.inputs)
            else self.runtime
        )
        needs = {name: self.store.path(need) for name, need in artifact.needs.items()}
        work = Work(
            stage=artifact.stage, label=artifact.label, folder=folder, settings=artifact.settings, needs=needs,
            inputs=artifact.inputs, runtime=alone,
        )  # fmt: skip
        return work.to_spec()

    def _runner(self, artifact: Artifact) -> Runner:
        kind = (
            "job"
            if self.runtime.devices > 1 and distributed(artifact.stage, artifact.inputs)
            else "pool"
            if self.jobs > 1
            else "inline"
        )
        if kind not in self._runners:
            self._runners[kind] = (
                Job(devices=self.runtime.devices, nodes=self.runtime.nodes, threads=self.threads) if kind == "job"
                else Pool(jobs=self.jobs, threads=self.threads) if kind == "pool" else Inline(threads=self.threads)
            )  # fmt: skip
        return self._runners[kind]

    def _poll(self, there: set[str]) -> None:
        self._tell_running()
        ended = [running for running in self._running if running.handle.done()]
        if not ended:
            time.sleep(LOOK)
        # All of them, also when one failed: what has ended well is sealed before the failure goes on its way.
        with ExitStack() as sealing:
            for running in reversed(ended):
                sealing.callback(self._seal, running, there)

    def _seal(self, running: _Running, there: set[str]) -> None:
        self._running.remove(running)
        try:
            made = running.handle.result()
            for path in list(running.folder.iterdir()):
                if any(fnmatch(path.name, name) for name in SCRATCH):
                    path.unlink()
            manifest = self.store.finish(running.artifact, {**made, **provenance(), **self.remark(running.artifact)})
        finally:
            running.lock.release()
        there.add(running.artifact.key)
        for watcher in self.watchers:
            watcher.finished(running.artifact, manifest, self.store.path(running.artifact), made=True)

    def _tell_running(self, also: tuple[Artifact, Path] | None = None) -> None:
        now = {running.artifact.key: (running.artifact, running.folder) for running in self._running}
        if also is not None:
            now[also[0].key] = also
        for watcher in self.watchers:
            watcher.running(now)

    def _abandon(self) -> None:
        """After a failure or an interrupt: end what still runs; its partial work stays for the next run."""
        if self._running:
            self.close()
        for running in self._running:
            running.lock.release()
        self._running.clear()

    def close(self) -> None:
        """Give the helper processes back."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
