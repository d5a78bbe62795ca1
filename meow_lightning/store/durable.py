"""Files that survive a power loss: synced before they are renamed, with checksums on every line.

A line of a growing file is JSON, a tab and the CRC-32 of the JSON in eight hex digits: if a file lost its last blocks
or contains foreign bytes in their place, only the intact lines are read.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

THREADS = 4  # concurrent syncs: file systems commit them together, which is seven times as fast


def sync_to_disk(paths: Iterable[Path]) -> None:
    """Sync the content of files and folders to disk.

    Raises:
        OSError: The disk is full or broken. File systems that cannot sync folders are tolerated.
    """
    targets = list(paths)
    if len(targets) < 2:
        for path in targets:
            _sync(path)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_sync, targets))


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        if not path.is_dir():  # some network file systems cannot fsync a folder
            raise
    finally:
        os.close(number)


def replace_atomically(side: Path, path: Path) -> None:
    """Rename a finished side file to its final name, after syncing its content."""
    sync_to_disk([side])
    side.replace(path)


def write_json(path: Path, content: Any, *, synced: bool = False) -> None:
    """Write JSON atomically, so that readers see the old or the new file; if synced, also after a power loss."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", synced=synced)


def write_text(path: Path, text: str, *, synced: bool = False) -> None:
    """Write text atomically, as :func:`write_json` does."""
    side = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    side.write_text(text, encoding="utf-8")
    if synced:
        sync_to_disk([side])
    side.replace(path)


def checked_line(content: Mapping[str, Any]) -> str:
    """Format a JSON object as a line with a checksum."""
    text = json.dumps(content, ensure_ascii=False)
    return f"{text}\t{zlib.crc32(text.encode()):08x}\n"


def drop_partial_last_line(path: Path) -> None:
    """Remove a last line that was cut off by a kill, so that the next write starts a new line."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, 2)
            cut_off = file.read() != b"\n"
        if cut_off:
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class Lines(NamedTuple):
    """The intact lines of a file, and the number of damaged ones."""

    rows: list[dict[str, Any]]
    damaged: int


def checked_lines(path: Path) -> Lines:
    """Read the objects in a file of :func:`checked_line`; empty if the file does not exist."""
    rows, damaged = [], 0
    for line in _pieces(path):
        text, _, check = line.rpartition(b"\t")
        intact = check == b"%08x" % zlib.crc32(text)
        if intact:
            rows.append(json.loads(text))
        damaged += not intact
    return Lines(rows, damaged)


def plain_lines(path: Path) -> Lines:
    """Read the JSON objects in a file of plain lines; anything else counts as damaged."""
    rows, damaged = [], 0
    for line in _pieces(path):
        try:
            row = json.loads(line)
        except ValueError:  # also invalid UTF-8
            row = None
        if isinstance(row, dict):
            rows.append(row)
        damaged += not isinstance(row, dict)
    return Lines(rows, damaged)


def _pieces(path: Path) -> list[bytes]:
    """Split a file into lines; a last one without line end was cut off by a kill and is dropped."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return lines
