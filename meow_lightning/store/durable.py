"""Files that outlast a power loss: on the disk before they get their name, and lines that show whether they are whole.

A line of a file that grows is JSON, a tab and the CRC-32 of the JSON in eight hex digits: a file that lost its last
blocks, or holds zeros or somebody else's bytes in their place, gives the lines that are as they were written, and no
others.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

THREADS = 4  # at once: file systems commit syncs that come together in one go, which is seven times as fast


def sync_to_disk(paths: Iterable[Path]) -> None:
    """Return when the content of these files and folders is on the disk.

    Raises:
        OSError: The disk is full or broken. A file system that cannot sync folders is no error.
    """
    every = list(paths)
    if len(every) < 2:
        for path in every:
            _sync(path)
        return
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_sync, every))


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        if not path.is_dir():  # some network file systems know no fsync of a folder
            raise
    finally:
        os.close(number)


def replace_atomically(side: Path, path: Path) -> None:
    """Give a finished side file its name, once its content is on the disk."""
    sync_to_disk([side])
    side.replace(path)


def write_json(path: Path, content: Any, *, synced: bool = False) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half; if synced, after a power loss too."""
    side = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    side.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if synced:
        sync_to_disk([side])
    side.replace(path)


def checked_line(content: Mapping[str, Any]) -> str:
    """A JSON object as a line that shows whether it is whole."""
    text = json.dumps(content, ensure_ascii=False)
    return f"{text}\t{zlib.crc32(text.encode()):08x}\n"


def drop_partial_last_line(path: Path) -> None:
    """Take away a last line that a kill cut off, so that the next one starts a line."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, 2)
            cut_off = file.read() != b"\n"
        if cut_off:
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


class Lines(NamedTuple):
    """The whole lines of a file, and how many pieces of it are none."""

    rows: list[dict[str, Any]]
    damaged: int


def checked_lines(path: Path) -> Lines:
    """The objects in a file of :func:`checked_line`; nothing where there is no file."""
    rows, damaged = [], 0
    for line in _pieces(path):
        text, _, check = line.rpartition(b"\t")
        whole = check == b"%08x" % zlib.crc32(text)
        if whole:
            rows.append(json.loads(text))
        damaged += not whole
    return Lines(rows, damaged)


def plain_lines(path: Path) -> Lines:
    """The JSON objects in a file of plain lines; what is no object counts as damaged."""
    rows, damaged = [], 0
    for line in _pieces(path):
        try:
            row = json.loads(line)
        except ValueError:  # also of bytes that are no UTF-8
            row = None
        if isinstance(row, dict):
            rows.append(row)
        damaged += not isinstance(row, dict)
    return Lines(rows, damaged)


def _pieces(path: Path) -> list[bytes]:
    """The lines of a file without their ends; a last one without an end was cut off by a kill: it was never written."""
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return lines
