"""Removal of stored results for good, which leaves a record of each: its key, needs, sizes and digests.

``<root>/.purged/<stage>-<key>.json`` is such a record. It is written before its result is removed, so that a removal
that is killed can be repeated: records take the place of manifests in finding what depends on what.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meow_lightning.errors import UserError
from meow_lightning.store.durable import sync_to_disk, write_json
from meow_lightning.store.folders import OTHERS, owner_only
from meow_lightning.store.integrity import MANIFEST, seal
from meow_lightning.store.lock_holders import Holder

RECORDS = ".purged"
# Entries of a manifest that its record keeps: digests and numbers; settings and notes may quote texts.
KEPT = ("stage", "label", "key", "version", "components", "needs", "seconds", "finished", "files")


@dataclass(frozen=True, slots=True)
class Stored:
    """One result of a store, or the record of one that was removed.

    Attributes:
        folder: Its folder, which does not exist any more if it was removed.
        manifest: Its manifest, or its record.
        live: Whether it is in the store.
    """

    folder: Path
    manifest: Mapping[str, Any]
    live: bool

    @property
    def stage(self) -> str:
        """Name of its stage."""
        return str(self.manifest["stage"])

    @property
    def key(self) -> str:
        """Its key."""
        return str(self.manifest["key"])

    @property
    def title(self) -> str:
        """Stage and label, for display."""
        return f"{self.stage} {self.manifest.get('label', '')}".strip()


def catalogue(root: Path) -> dict[str, Stored]:
    """Read the manifests of all results of a store, and the records of removed ones, by key."""
    found: dict[str, Stored] = {}
    for path in sorted(root.glob(f"{RECORDS}/*.json")):
        if (record := _read(path)) is not None:
            found[record["key"]] = Stored(root / record["stage"] / record["key"], record, live=False)
    for path in sorted(root.glob(f"*/*/{MANIFEST}")):
        manifest = _read(path)
        if manifest is not None and manifest["key"] == path.parent.name:  # neither partial nor set aside
            found[manifest["key"]] = Stored(path.parent, manifest, live=True)
    return found


def with_needs(results: Mapping[str, Stored], keys: Iterable[str]) -> set[str]:
    """Collect some results and everything they were computed from, as far as the store knows it."""
    found, waiting = set[str](), [key for key in keys if key in results]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += [need for need in results[key].manifest.get("needs", {}).values() if need in results]
    return found


def remains(stored: Stored) -> list[Path]:
    """List the folders of a result: itself, and what killed, damaged or interrupted processes left of it."""
    return [stored.folder] * stored.folder.exists() + sorted(stored.folder.parent.glob(f"{stored.key}.*"))


def write_record(root: Path, stored: Stored, **entries: Any) -> None:
    """Record a result that is about to be removed.

    Args:
        root: The store.
        stored: The result.
        **entries: Further entries of the record.
    """
    folder = root / RECORDS
    folder.mkdir(exist_ok=True)
    kept = {name: stored.manifest[name] for name in KEPT if name in stored.manifest}
    with owner_only(True):
        path = folder / f"{stored.stage}-{stored.key}.json"
        write_json(path, {**kept, **entries, "purged": time.time()}, synced=True)
    sync_to_disk([folder])


def remove_folder(folder: Path) -> None:
    """Remove a result's folder so that a kill at any moment leaves no part of it under the name of a result."""
    if not folder.suffix:
        aside = folder.with_name(f"{folder.name}.purged-{time.time_ns()}")
        folder.rename(aside)
        folder = aside
    shutil.rmtree(folder)
    sync_to_disk([folder.parent])


def without_notes(path: Path) -> None:
    """Rewrite a manifest without its notes, which may quote texts, and seal it again."""
    manifest = json.loads(path.read_bytes())
    manifest.pop("notes", None)
    manifest["seal"] = seal(manifest)
    mode = path.stat().st_mode
    write_json(path, manifest, synced=True)
    path.chmod(mode)


def held_locks(root: Path) -> dict[str, Holder | None]:
    """List the results that other processes compute now, as ``stage-key``, and these processes.

    Raises:
        UserError: It cannot be determined, since locks belong to another user.
    """
    held: dict[str, Holder | None] = {}
    for path in sorted((root / ".locks").glob("*.lock")):
        lock = FileLock(path, timeout=0)
        try:
            with lock:
                continue
        except Timeout:
            held[path.stem] = Holder.read(path.with_suffix(".owner"))
        except PermissionError as error:
            raise UserError(
                f"no permission for {path}, so whether a run uses this store is unknown; purge as the user who ran it"
            ) from error
    return held


@contextmanager
def locked(root: Path, results: Iterable[Stored]) -> Iterator[None]:
    """Hold the locks of some results, so that no run computes them meanwhile.

    Raises:
        UserError: A run computes one of them.
    """
    (root / ".locks").mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        for each in results:
            path = root / ".locks" / f"{each.stage}-{each.key}.lock"
            try:
                with owner_only(not each.folder.stat().st_mode & OTHERS if each.folder.exists() else True):
                    locks.enter_context(FileLock(path, timeout=0))
            except Timeout as error:
                raise in_use(each.title, Holder.read(path.with_suffix(".owner"))) from error
        yield


def in_use(title: str, holder: Holder | None) -> UserError:
    """Build the error about a run that is computing a result."""
    who = "another process" if holder is None else holder.described()
    return UserError(
        f"a run is computing {title} ({who}), and would write the texts again; purge once it has ended"
        + (f"; {holder.remedy('ends it')}" if holder else "")
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Read a manifest or record; ``None`` if it is damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and isinstance(content.get("key"), str) and isinstance(content.get("stage"), str)
    return content if whole else None
