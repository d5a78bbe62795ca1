"""Stage store: results addressed by the hash of their inputs, written to a side folder and renamed when complete.

``<root>/<stage>/<key>/`` is a finished result with its ``manifest.json``; ``<key>.partial/`` one in progress, kept if
its process is killed so that the next one resumes it; ``<root>/.locks/`` the locks. A lock is an operating system file
lock: it is released when its owner ends, however it ends.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, SoftFileLock, Timeout

from meow_lightning.errors import UserError, check_choice
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import sync_to_disk, write_json
from meow_lightning.store.folders import make_folder, owner_only, set_permissions, why_unwritable
from meow_lightning.store.integrity import MANIFEST, DamagedError, Integrity, digest, file_entry, seal
from meow_lightning.store.lock_holders import Holder

__all__ = ["MANIFEST", "Artifact", "Cache", "Store", "digest", "write_json"]

Cache = Literal["use", "refresh", "readonly"]
# Each start of the program is a session: cache=refresh only recomputes results of earlier ones.
SESSION_START = float(os.environ.setdefault("MEOW_SESSION_START", repr(time.time())))


class Store:
    """Finished results under one root folder, shared by any number of processes.

    Args:
        root: Folder of the store; created if missing.
        cache: ``use`` existing results, ``refresh`` results of earlier runs, or compute nothing (``readonly``).

    Raises:
        UserError: Unknown ``cache``.
    """

    def __init__(self, *, root: Path, cache: Cache) -> None:
        check_choice("cache", cache, get_args(Cache))
        self.root, self.cache = root, cache
        self._integrity = Integrity(root, keep=cache != "readonly")
        self._damage: dict[str, str] = {}

    def check_writable(self) -> None:
        """Check that results can be written; a store that is only read may be on a read-only disk.

        Raises:
            UserError: The folder is not writable, and ``cache`` is not ``readonly``.
        """
        if self.cache != "readonly" and (why := why_unwritable(self.root)) is not None:
            raise UserError(f"the store {self.root} is not writable ({why}); choose another with store=FOLDER")

    def path(self, artifact: Artifact) -> Path:
        """Return the folder of a finished result, existing or not."""
        return self.root / artifact.stage / artifact.key

    def partial(self, artifact: Artifact) -> Path:
        """Return the folder of a result in progress."""
        return self.root / artifact.stage / f"{artifact.key}.partial"

    def manifest(self, artifact: Artifact) -> dict[str, Any] | None:
        """Return the manifest of an intact result; ``None`` if it is missing or damaged."""
        folder = self.path(artifact)
        self._damage.pop(artifact.key, None)
        if not folder.exists():
            return None
        try:
            return self._integrity.check(folder, stage=artifact.stage, key=artifact.key)
        except DamagedError as error:
            if folder.exists():  # not set aside by another process in the meantime
                self._damage[artifact.key] = str(error)
            return None

    def damage(self, artifact: Artifact) -> str | None:
        """Describe the damage found in a stored result; ``None`` if it is intact or missing."""
        return self._damage.get(artifact.key)

    def find(self, artifact: Artifact) -> dict[str, Any] | None:
        """Return the manifest of a result that this run may use; ``None`` if it must be computed."""
        manifest = self.manifest(artifact)
        if manifest is not None and self.cache == "refresh" and manifest["finished"] < SESSION_START:
            return None
        return manifest

    def lock(self, artifact: Artifact) -> FileLock | None:
        """Acquire the lock for computing a result; ``None`` if another process holds it.

        Look for the result again after acquiring it: another process may have finished it, or may have been killed
        between sealing and renaming it, which is completed now.

        Raises:
            UserError: The file system does not support locks that end with their owner.
        """
        self._lock_file(artifact).parent.mkdir(parents=True, exist_ok=True)
        with owner_only(artifact.private):
            lock = self._try_acquire(FileLock(self._lock_file(artifact), timeout=0))
        if lock is None:
            return None
        with ExitStack() as failing:
            failing.callback(lock.release)
            with owner_only(artifact.private):
                Holder.here().write(self._lock_file(artifact).with_suffix(".owner"))
            folder = self.path(artifact).parent
            folder.mkdir(exist_ok=True)
            os.utime(folder)  # invalidates an NFS client's cache of missing names
            if self._is_sealed(artifact):
                self._publish(artifact)
            failing.pop_all()
        return lock

    def _is_sealed(self, artifact: Artifact) -> bool:
        """Whether a killed process's partial result was sealed; fully hashed, since a power loss may have ended it."""
        try:
            partial = self.partial(artifact)
            self._integrity.check(partial, stage=artifact.stage, key=artifact.key, thorough=True)
        except DamagedError:
            return False
        return True

    def _try_acquire(self, lock: FileLock) -> FileLock | None:
        try:
            lock.acquire()
        except Timeout:
            return None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, PermissionError):
                raise UserError(
                    f"no permission for {lock.lock_file}: another user computed this result privately (its "
                    "dataset is not public, or their umask denies others write access); choose your own store with "
                    "store=FOLDER"
                ) from error
            if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
        else:
            if not isinstance(lock, SoftFileLock):
                return lock
            lock.release()  # filelock's fallback without locks would outlive a killed owner
        raise UserError(
            f"the file system of the store {self.root} has no file locks, which processes need to share it; "
            "mount it with locks (Lustre: flock, NFS: not nolock), or choose another with store=FOLDER"
        )

    def held(self, artifact: Artifact) -> bool | None:
        """Whether another process is computing a result; ``None`` if that cannot be determined here.

        Takes a shared lock for an instant, so that two observers do not mistake each other for owners.
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
        except OSError:  # a file system without such locks, or another user's file
            return None

    def holder(self, artifact: Artifact) -> Holder | None:
        """Return the process that computes a result, or did last; ``None`` if unknown."""
        return Holder.read(self._lock_file(artifact).with_suffix(".owner"))

    def owner(self, artifact: Artifact) -> str:
        """Return that process as ``process@host``."""
        return str(self.holder(artifact) or "another process")

    def _lock_file(self, artifact: Artifact) -> Path:
        return self.root / ".locks" / f"{artifact.stage}-{artifact.key}.lock"

    def begin(self, artifact: Artifact) -> Path:
        """Prepare the folder for computing a result; the caller holds its lock. Partial work of a killed process stays.

        A damaged finished result is moved to ``<key>.damaged-<time>``; one to be refreshed stays until the new one is
        complete.
        """
        folder, partial = self.path(artifact), self.partial(artifact)
        if folder.exists() and self.manifest(artifact) is None:
            folder.rename(folder.with_name(f"{folder.name}.damaged-{time.time_ns()}"))
        elif folder.exists():
            shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial, private=artifact.private)
        return partial

    def finish(self, artifact: Artifact, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a result: write its manifest last, then rename its folder; returns the manifest.

        Args:
            artifact: The result; the caller holds its lock.
            entries: Further entries of the manifest, such as seconds and host.
        """
        partial = self.partial(artifact)
        # A kill during a write leaves its side file behind.
        for leftover in (partial / "progress.json", *partial.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        resume = partial / "resume"  # removed last: until the manifest is written, a kill must not lose the training
        kept = [path for path in sorted(partial.rglob("*")) if resume not in (path, *path.parents)]
        set_permissions(kept, private=artifact.private)
        files = {
            str(path.relative_to(partial)): file_entry(path)
            for path in kept
            if path.is_file() and path.name != MANIFEST
        }
        manifest = {
            "stage": artifact.stage,
            "label": artifact.label,
            "key": artifact.key,
            "version": artifact.version,
            "components": artifact.components,
            "settings": artifact.settings,
            "needs": {name: need.key for name, need in artifact.needs.items()},
            **entries,
            "finished": time.time(),
            "files": files,
        }
        manifest["seal"] = seal(manifest)
        with owner_only(artifact.private):
            write_json(partial / MANIFEST, manifest)
        self._publish(artifact)
        return manifest

    def _publish(self, artifact: Artifact) -> None:
        """Rename a sealed result after syncing it to disk; if killed, the next lock completes this.

        Files needed only for resuming are deleted first; for gigabytes, a kill at this point is likely.
        """
        folder, partial = self.path(artifact), self.partial(artifact)
        old = partial.with_suffix(".old")
        shutil.rmtree(partial / "resume", ignore_errors=True)
        try:
            sync_to_disk([partial, *(path for path in sorted(partial.rglob("*")) if not path.is_symlink())])
        except OSError:
            (partial / MANIFEST).unlink()  # what is read now may not be on the disk: recompute it
            raise
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)  # a kill between the next two renames leaves one behind
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
