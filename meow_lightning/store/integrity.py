"""Integrity of stored results.

A manifest contains the digest of every file and of itself. A file is hashed at its first use in a process; one of more
than ``SMALL`` bytes is not, if the file system shows that it is the same file that was sealed or hashed before: the
same inode, size, modification time and change time. Programs can set the modification time but not the change time.
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
_hashed: dict[tuple[Path, Stamp], str] = {}  # hashed by this process


class DamagedError(Exception):
    """A stored result differs from what was sealed; the text describes the difference."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(state: os.stat_result) -> Stamp:
    """Return (size, modification time, change time, inode), which changes if a file is replaced or written."""
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def file_entry(path: Path) -> dict[str, Any]:
    """Build a file's manifest entry."""
    state = path.stat()
    return {
        "size": state.st_size, "time": state.st_mtime_ns, "changed": state.st_ctime_ns, "inode": state.st_ino,
        "sha256": digest(path),
    }  # fmt: skip


def seal(manifest: Mapping[str, Any]) -> str:
    """Compute a manifest's digest: SHA-256 of all its other entries, in hex."""
    content = {name: value for name, value in manifest.items() if name != "seal"}
    plain = json.loads(json.dumps(content))  # as a reader sees it: keys are strings
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class Integrity:
    """Integrity checks for the results of one store.

    Args:
        root: The store's folder.
        keep: Whether to remember on disk which large files of a copied store have been hashed.
    """

    def __init__(self, root: Path, *, keep: bool) -> None:
        self._notes = root / ".verified"
        self._keep = keep

    def check(self, folder: Path, *, stage: str, key: str, thorough: bool = False) -> dict[str, Any]:
        """Check a result and return its manifest.

        Args:
            folder: The result's folder.
            stage: Its stage.
            key: Its key.
            thorough: Hash every file, regardless of file system metadata.

        Raises:
            DamagedError: It differs from what was sealed.
        """
        try:
            manifest = self._manifest(folder, stage=stage, key=key, thorough=thorough)
            for name, sealed in manifest["files"].items():
                self._check_file(folder, name, sealed, note=f"{stage}-{key}.json", thorough=thorough)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedError(f"its {MANIFEST} is not a manifest") from error
        return manifest

    def _manifest(self, folder: Path, *, stage: str, key: str, thorough: bool) -> dict[str, Any]:
        path = folder / MANIFEST
        try:
            state, text = path.stat(), path.read_bytes()
        except OSError as error:
            raise DamagedError(f"its {MANIFEST} is missing or unreadable") from error
        manifest: dict[str, Any] = json.loads(text)
        if (manifest["stage"], manifest["key"]) != (stage, key):
            raise DamagedError(f"it is a different result: {manifest['stage']} {manifest['key']}")
        version = path, stamp(state)
        if version not in _hashed or thorough:
            # Manifests of early versions have no seal.
            if not manifest["finished"] > 0 or manifest.get("seal", computed := seal(manifest)) != computed:
                raise DamagedError(f"its {MANIFEST} differs from what was sealed")
            _hashed[version] = computed
        return manifest

    def _check_file(self, folder: Path, name: str, sealed: Mapping[str, Any], *, note: str, thorough: bool) -> None:
        path = folder / name
        try:
            now = stamp(path.stat())
            if now[0] != sealed["size"]:
                raise DamagedError(f"{name} has {now[0]} bytes instead of {sealed['size']}")
            if (path, now) not in _hashed or thorough:
                unchanged = self._unchanged(note, name, now, sealed) and not thorough
                _hashed[path, now] = sealed["sha256"] if unchanged else digest(path)
                if not unchanged and now[0] > SMALL and _hashed[path, now] == sealed["sha256"]:
                    self._remember(note, name, now)
        except OSError as error:
            raise DamagedError(f"{name} is missing or unreadable ({error.strerror})") from error
        if _hashed[path, now] != sealed["sha256"]:
            raise DamagedError(f"{name} differs from what was sealed")

    def _unchanged(self, note: str, name: str, now: Stamp, sealed: Mapping[str, Any]) -> bool:
        """Whether file system metadata show that a large file is the one that was sealed, or hashed since."""
        if now[0] <= SMALL:
            return False
        written = sealed["size"], sealed["time"], sealed.get("changed"), sealed.get("inode")
        return now == written or list(now) == self._remembered(note).get(name)

    def _remembered(self, note: str) -> dict[str, Any]:
        try:
            content = json.loads((self._notes / note).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _remember(self, note: str, name: str, now: Stamp) -> None:
        if not self._keep or list(now) == self._remembered(note).get(name):
            return
        path = self._notes / note
        try:
            self._notes.mkdir(exist_ok=True)
            write_json(path, {**self._remembered(note), name: now}, synced=True)
        except OSError:  # the cache only saves time
            return
