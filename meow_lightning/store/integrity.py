"""Whether a stored result is what was sealed.

A manifest holds the digest of every file and of itself. A file is hashed at its first use in a process; one of more
than ``SMALL`` bytes is not, as long as the file system says that it is the very file that was sealed or hashed before:
the same inode, size, time of content and time of change. Programs can set the time of content, but not that of change.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.durable import write_json

MANIFEST = "manifest.json"
SMALL = 2**20  # bytes; a millisecond of hashing
Stamp = tuple[int, int, int, int]
_hashed: dict[tuple[Path, Stamp], str] = {}  # by this process


class DamagedError(Exception):
    """A stored result is not what was sealed; the text says what is wrong with it."""


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(state: os.stat_result) -> Stamp:
    """(size, time of content, time of change, inode): tells a file from one put or written in its place."""
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def file_entry(path: Path) -> dict[str, Any]:
    """What a manifest holds of a file."""
    state = path.stat()
    return {
        "size": state.st_size, "time": state.st_mtime_ns, "changed": state.st_ctime_ns, "inode": state.st_ino,
        "sha256": digest(path),
    }  # fmt: skip


def seal(manifest: Mapping[str, Any]) -> str:
    """The digest of a manifest: SHA-256 over all of it but this digest, in hex."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    plain = json.loads(json.dumps(content))  # as a reader sees it: keys are texts
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class Integrity:
    """Checks the results of one store.

    Args:
        root: The store's folder.
        keep: Whether to remember on disk which large files of a copied store were hashed.
    """

    def __init__(self, root: Path, *, keep: bool) -> None:
        self._notes = root / ".verified"
        self._keep = keep

    def check(self, folder: Path, *, stage: str, key: str, thorough: bool = False) -> dict[str, Any]:
        """The manifest of a result that is what was sealed.

        Args:
            folder: The result's.
            stage: The stage that makes it.
            key: Its key.
            thorough: Hash every file, whatever the file system says of it.

        Raises:
            DamagedError: It is not.
        """
        try:
            manifest = self._manifest(folder, stage=stage, key=key, thorough=thorough)
            for name, sealed in manifest["files"].items():
                self._check_file(folder, name, sealed, note=f"{stage}-{key}.json", thorough=thorough)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedError(f"its {MANIFEST} is no manifest") from error
        return manifest

    def _manifest(self, folder: Path, *, stage: str, key: str, thorough: bool) -> dict[str, Any]:
        path = folder / MANIFEST
        try:
            state, text = path.stat(), path.read_bytes()
        except OSError as error:
            raise DamagedError(f"its {MANIFEST} is missing or cannot be read") from error
        manifest: dict[str, Any] = json.loads(text)
        if (manifest["stage"], manifest["key"]) != (stage, key):
            raise DamagedError(f"it is another one: {manifest['stage']} {manifest['key']}")
        known = path, stamp(state)
        if known not in _hashed or thorough:
            # Before there were seals, manifests had none.
            if not manifest["finished"] > 0 or manifest.get("seal", found := seal(manifest)) != found:
                raise DamagedError(f"its {MANIFEST} is not what was sealed")
            _hashed[known] = found
        return manifest

    def _check_file(self, folder: Path, name: str, sealed: Mapping[str, Any], *, note: str, thorough: bool) -> None:
        path = folder / name
        try:
            now = stamp(path.stat())
            if now[0] != sealed["size"]:
                raise DamagedError(f"{name} holds {now[0]} bytes of {sealed['size']}")
            if (path, now) not in _hashed or thorough:
                known = self._known(note, name, now, sealed) and not thorough
                _hashed[path, now] = sealed["sha256"] if known else digest(path)
                if not known and now[0] > SMALL and _hashed[path, now] == sealed["sha256"]:
                    self._remember(note, name, now)
        except OSError as error:
            raise DamagedError(f"{name} is missing or cannot be read ({error.strerror})") from error
        if _hashed[path, now] != sealed["sha256"]:
            raise DamagedError(f"{name} is not what was sealed")

    def _known(self, note: str, name: str, now: Stamp, sealed: Mapping[str, Any]) -> bool:
        """Whether the file system says of a large file that it is the one that was sealed, or hashed since."""
        if now[0] <= SMALL:
            return False
        written = sealed["size"], sealed["time"], sealed.get("changed"), sealed.get("inode")
        return now == written or list(now) == self._remembered(note).get(name)

    def _remembered(self, note: str) -> dict[str, Any]:
        try:
            found = json.loads((self._notes / note).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, note: str, name: str, now: Stamp) -> None:
        if not self._keep or list(now) == self._remembered(note).get(name):
            return
        path = self._notes / note
        try:
            self._notes.mkdir(exist_ok=True)
            write_json(path, {**self._remembered(note), name: now}, synced=True)
        except OSError:  # it saves time, no more
            return
