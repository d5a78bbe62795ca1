"""The stage store: results by the hash of what made them, written in a side folder and renamed when whole.

``<root>/<stage>/<key>/`` holds a finished result with its ``manifest.json``; ``<key>.partial/`` one in the making, kept
when its maker is killed so that the next one goes on from there; ``<root>/.locks/`` who is making what. A lock is a
file lock of the operating system: it goes with its owner, however that one ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from meow_lightning.types import UserError

Cache = Literal["use", "refresh", "readonly"]
MANIFEST = "manifest.json"
# A later start of the same program is another session: only results made before it are remade by cache=refresh.
SESSION_START = float(os.environ.setdefault("MEOW_SESSION_START", repr(time.time())))


@dataclass(frozen=True)
class Artifact:
    """One result: which stage makes it, from which settings and which other results.

    Attributes:
        stage: Stage name, also the folder's.
        label: Whose result it is within a cell, for people: ``target``, ``retain``, ``unlearned`` …; not in the key.
        version: The stage's VERSION; a new one makes old results stale.
        settings: The stage's own settings, plain JSON values; nothing in them may be without effect on the result.
        needs: The results it is made from, by the name the stage knows them by.
        inputs: How the stage gets at the rows whose digests stand in the settings; not in the key.
    """

    stage: str
    label: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, Artifact]
    inputs: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Twelve hex digits of the SHA-256 over stage, version, settings and the keys of what it needs."""
        content = {
            "stage": self.stage,
            "version": self.version,
            "settings": self.settings,
            "needs": {name: need.key for name, need in self.needs.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    def walk(self) -> list[Artifact]:
        """The artifact and all it is made from, each key once, what is needed first."""
        seen: dict[str, Artifact] = {}

        def visit(artifact: Artifact) -> None:
            if artifact.key not in seen:
                for need in artifact.needs.values():
                    visit(need)
                seen[artifact.key] = artifact

        visit(self)
        return list(seen.values())


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as_sealed(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is as its manifest says: by size and time, and by its digest where the time is another.

    What a link leads to may have been changed for another file, an older one even; a copied store has new times.
    """
    state = path.stat()
    return state.st_size == entry["size"] and (state.st_mtime_ns == entry["time"] or digest(path) == entry["sha256"])


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written into a folder that may yet have to be made, ``None`` when it can."""
    there = next(each for each in (folder, *folder.resolve().parents) if _exists(each))
    if not there.is_dir():
        return f"{there} is no folder"
    return None if os.access(there, os.W_OK | os.X_OK) else "no write permission"


def _exists(path: Path) -> bool:
    """Whether a path is there, as far as this user may see; what lies in a closed folder is not."""
    try:
        return path.exists()
    except PermissionError:
        return False


def _umask() -> int:
    """What this process takes away from the rights of a new file."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    side = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    side.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    side.replace(path)


class Store:
    """Finished results under one root, shared by any number of processes.

    Args:
        root: Folder of the store; made when missing.
        cache: ``use`` takes what is there, ``refresh`` remakes what an earlier run made, ``readonly`` makes nothing.

    Raises:
        UserError: When the folder cannot be written.
    """

    def __init__(self, *, root: Path, cache: Cache) -> None:
        if cache not in ("use", "refresh", "readonly"):
            raise UserError(f"cache={cache} is not known; allowed: use, refresh, readonly")
        self.root = root
        self.cache = cache
        if cache != "readonly" and (why := unwritable(root)) is not None:
            raise UserError(f"the store {root} cannot be written ({why}); choose another with store=FOLDER")

    def path(self, artifact: Artifact) -> Path:
        """Where the finished result is, or will be."""
        return self.root / artifact.stage / artifact.key

    def partial(self, artifact: Artifact) -> Path:
        """Where the result is being made."""
        return self.root / artifact.stage / f"{artifact.key}.partial"

    def manifest(self, artifact: Artifact) -> dict[str, Any] | None:
        """The manifest of a whole result, ``None`` when there is none or something in it has changed since."""
        folder = self.path(artifact)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            whole = all(_as_sealed(folder / name, entry) for name, entry in manifest["files"].items())
            return manifest if whole and manifest["finished"] > 0 else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def find(self, artifact: Artifact) -> dict[str, Any] | None:
        """The manifest of a result that this run may use, ``None`` when it must be made."""
        manifest = self.manifest(artifact)
        if manifest is not None and self.cache == "refresh" and manifest["finished"] < SESSION_START:
            return None
        return manifest

    def lock(self, artifact: Artifact) -> FileLock | None:
        """The lock for making a result, taken; ``None`` when another process is at it."""
        self._lock_file(artifact).parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock_file(artifact), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return None
        self._lock_file(artifact).with_suffix(".owner").write_text(f"{os.getpid()}@{socket.gethostname()}")
        return lock

    def held(self, artifact: Artifact) -> bool | None:
        """Whether another process makes a result at present; ``None`` where that cannot be seen from here.

        The look holds a shared lock for an instant, so that two who look do not take each other for makers.
        """
        import fcntl

        try:
            with self._lock_file(artifact).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except OSError:  # a file system without such locks, or somebody else's file
            return None

    def owner(self, artifact: Artifact) -> str:
        """Who makes a result at present, or made it last, as ``process@host``."""
        try:
            return self._lock_file(artifact).with_suffix(".owner").read_text()
        except OSError:
            return "another process"

    def _lock_file(self, artifact: Artifact) -> Path:
        return self.root / ".locks" / f"{artifact.stage}-{artifact.key}.lock"

    def begin(self, artifact: Artifact) -> Path:
        """The folder to make a result in; the caller holds its lock. What a killed maker left in it stays.

        A damaged finished result is set aside as ``<key>.damaged-<time>``; one that is to be refreshed stays until the
        new one is whole.
        """
        folder, partial = self.path(artifact), self.partial(artifact)
        if folder.exists() and self.manifest(artifact) is None:
            folder.rename(folder.with_name(f"{folder.name}.damaged-{time.time_ns()}"))
        elif folder.exists():
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        return partial

    def finish(self, artifact: Artifact, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a result: write its manifest last, then give the folder its name. Returns the manifest."""
        partial = self.partial(artifact)
        # A kill in the middle of a write leaves its side file behind.
        for leftover in (partial / "progress.json", *partial.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        resume = partial / "resume"  # goes last: until the manifest is written a kill must not cost the training
        kept = [path for path in sorted(partial.rglob("*")) if resume not in (path, *path.parents)]
        for path in kept:
            if path.is_symlink():
                continue  # a user's model stays as it is
            # Some writers make files that their owner alone can read; a store is shared.
            mode = path.stat().st_mode
            shared = mode | (0o777 if path.is_dir() else 0o666) & ~_umask()
            if shared != mode:  # a link to somebody else's file must be left as it is
                path.chmod(shared)
        files = {
            str(path.relative_to(partial)): {
                "size": path.stat().st_size,
                "time": path.stat().st_mtime_ns,
                "sha256": digest(path),
            }
            for path in kept
            if path.is_file() and path.name != MANIFEST
        }
        manifest = {
            "stage": artifact.stage,
            "label": artifact.label,
            "key": artifact.key,
            "version": artifact.version,
            "settings": artifact.settings,
            "needs": {name: need.key for name, need in artifact.needs.items()},
            **facts,
            "finished": time.time(),
            "files": files,
        }
        write_json(partial / MANIFEST, manifest)
        shutil.rmtree(resume, ignore_errors=True)
        folder, old = self.path(artifact), partial.with_suffix(".old")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)  # a kill between the next two renames leaves one behind
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return manifest
