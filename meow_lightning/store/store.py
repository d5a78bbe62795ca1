"""The stage store: results by the hash of what made them, written in a side folder and renamed when whole.

``<root>/<stage>/<key>/`` holds a finished result with its ``manifest.json``; ``<key>.partial/`` one in the making, kept
when its maker is killed so that the next one goes on from there; ``<root>/.locks/`` who is making what. A lock is a
file lock of the operating system: it goes with its owner, however that one ends.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, SoftFileLock, Timeout

from meow_lightning.errors import UserError
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import sync_to_disk, write_json
from meow_lightning.store.folders import make_folder, owner_only, set_permissions, why_unwritable
from meow_lightning.store.integrity import MANIFEST, DamagedError, Integrity, digest, file_entry, seal
from meow_lightning.store.lock_holders import Holder

__all__ = ["MANIFEST", "Artifact", "Cache", "Store", "digest", "write_json"]

Cache = Literal["use", "refresh", "readonly"]
# A later start of the same program is another session: only results made before it are remade by cache=refresh.
SESSION_START = float(os.environ.setdefault("MEOW_SESSION_START", repr(time.time())))


class Store:
    """Finished results under one root, shared by any number of processes.

    Args:
        root: Folder of the store; made when missing.
        cache: ``use`` takes what is there, ``refresh`` remakes what an earlier run made, ``readonly`` makes nothing.

    Raises:
        UserError: ``cache`` is none of these.
    """

    def __init__(self, *, root: Path, cache: Cache) -> None:
        if cache not in ("use", "refresh", "readonly"):
            raise UserError(f"cache={cache} is not known; allowed: use, refresh, readonly")
        self.root, self.cache = root, cache
        self._integrity = Integrity(root, keep=cache != "readonly")
        self._damage: dict[str, str] = {}

    def check_writable(self) -> None:
        """Return where results can be made; a store that is only looked at may lie on a read-only disk.

        Raises:
            UserError: The folder cannot be written, and ``cache`` is not ``readonly``.
        """
        if self.cache != "readonly" and (why := why_unwritable(self.root)) is not None:
            raise UserError(f"the store {self.root} cannot be written ({why}); choose another with store=FOLDER")

    def path(self, artifact: Artifact) -> Path:
        """Where the finished result is, or will be."""
        return self.root / artifact.stage / artifact.key

    def partial(self, artifact: Artifact) -> Path:
        """Where the result is being made."""
        return self.root / artifact.stage / f"{artifact.key}.partial"

    def manifest(self, artifact: Artifact) -> dict[str, Any] | None:
        """The manifest of a whole result, ``None`` when there is none or it is not what was sealed."""
        folder = self.path(artifact)
        self._damage.pop(artifact.key, None)
        if not folder.exists():
            return None
        try:
            return self._integrity.check(folder, stage=artifact.stage, key=artifact.key)
        except DamagedError as error:
            if folder.exists():  # nobody has set it aside in the meantime
                self._damage[artifact.key] = str(error)
            return None

    def damage(self, artifact: Artifact) -> str | None:
        """What the last look at a stored result found wrong with it; ``None`` where it is whole or not there."""
        return self._damage.get(artifact.key)

    def find(self, artifact: Artifact) -> dict[str, Any] | None:
        """The manifest of a result that this run may use, ``None`` when it must be made."""
        manifest = self.manifest(artifact)
        if manifest is not None and self.cache == "refresh" and manifest["finished"] < SESSION_START:
            return None
        return manifest

    def lock(self, artifact: Artifact) -> FileLock | None:
        """The lock for making a result, taken; ``None`` when another process is at it.

        With it in hand look again: another process may have finished the result, or may have been killed when it was
        sealed and had no name yet, which it now has.

        Raises:
            UserError: The file system has no locks that end with their owner.
        """
        self._lock_file(artifact).parent.mkdir(parents=True, exist_ok=True)
        with owner_only(artifact.private):
            lock = self._taken(FileLock(self._lock_file(artifact), timeout=0))
        if lock is None:
            return None
        with ExitStack() as failing:
            failing.callback(lock.release)
            with owner_only(artifact.private):
                Holder.here().write(self._lock_file(artifact).with_suffix(".owner"))
            folder = self.path(artifact).parent
            folder.mkdir(exist_ok=True)
            os.utime(folder)  # an NFS client that remembers for a minute which names are not there asks anew
            if self._sealed(artifact):
                self._name(artifact)
            failing.pop_all()
        return lock

    def _sealed(self, artifact: Artifact) -> bool:
        """Whether what a killed maker left was sealed; hashed whole, for it may be a power loss that ended it."""
        try:
            partial = self.partial(artifact)
            self._integrity.check(partial, stage=artifact.stage, key=artifact.key, thorough=True)
        except DamagedError:
            return False
        return True

    def _taken(self, lock: FileLock) -> FileLock | None:
        try:
            lock.acquire()
        except Timeout:
            return None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, PermissionError):
                raise UserError(
                    f"no permission for {lock.lock_file}: another user made this result for themselves alone (its "
                    "dataset is not public, or their umask lets nobody else write); choose a store of your own with "
                    "store=FOLDER"
                ) from error
            if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
        else:
            if not isinstance(lock, SoftFileLock):
                return lock
            lock.release()  # filelock's way out where there are no locks: it would outlive a killed owner
        raise UserError(
            f"the file system of the store {self.root} has no file locks, which several processes need to share it; "
            "have it mounted with them (Lustre: flock, NFS: not nolock), or choose another with store=FOLDER"
        )

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

    def holder(self, artifact: Artifact) -> Holder | None:
        """Who makes a result at present, or made it last; ``None`` where that is not known."""
        return Holder.read(self._lock_file(artifact).with_suffix(".owner"))

    def owner(self, artifact: Artifact) -> str:
        """Who makes a result at present, or made it last, as ``process@host``."""
        return str(self.holder(artifact) or "another process")

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
        make_folder(partial, private=artifact.private)
        return partial

    def finish(self, artifact: Artifact, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Seal a result: write its manifest last, then give the folder its name. Returns the manifest."""
        partial = self.partial(artifact)
        # A kill in the middle of a write leaves its side file behind.
        for leftover in (partial / "progress.json", *partial.glob("*.tmp")):
            leftover.unlink(missing_ok=True)
        resume = partial / "resume"  # goes last: until the manifest is written a kill must not cost the training
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
            "settings": artifact.settings,
            "needs": {name: need.key for name, need in artifact.needs.items()},
            **facts,
            "finished": time.time(),
            "files": files,
        }
        manifest["seal"] = seal(manifest)
        with owner_only(artifact.private):
            write_json(partial / MANIFEST, manifest)
        self._name(artifact)
        return manifest

    def _name(self, artifact: Artifact) -> None:
        """Give a sealed result its name, once all of it is on the disk; a killed maker's next lock does the rest.

        What a resumed making would have needed goes first, and where that is gigabytes a kill may well come here.
        """
        folder, partial = self.path(artifact), self.partial(artifact)
        old = partial.with_suffix(".old")
        shutil.rmtree(partial / "resume", ignore_errors=True)
        try:
            sync_to_disk([partial, *(path for path in sorted(partial.rglob("*")) if not path.is_symlink())])
        except OSError:
            (partial / MANIFEST).unlink()  # what is read now need not be what is on the disk: it is made anew
            raise
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)  # a kill between the next two renames leaves one behind
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
