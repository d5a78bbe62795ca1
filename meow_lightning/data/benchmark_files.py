"""Published benchmarks in folders: where their files are, and what their entries must hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from meow_lightning.data.jsonl_reader import Entry
from meow_lightning.errors import UserError


def benchmark_folder(folder: str | None, name: str, files: Sequence[str]) -> Path:
    """Find the folder of a benchmark's files.

    Args:
        folder: The given folder; ``None`` for the folder ``name`` in ``$MEOW_DATA_DIR``.
        name: Name of the dataset.
        files: Names of the files that it must hold.

    Raises:
        UserError: There is no such folder, or a file is missing.
    """
    remedy = f"put {' and '.join(files)} into {name}/ of a folder and set MEOW_DATA_DIR to it, or set dataset.folder=…"
    if folder is None and not os.environ.get("MEOW_DATA_DIR"):
        raise UserError(f"dataset={name} needs its published files, and MEOW_DATA_DIR is not set: {remedy}")
    data_dir = Path(os.environ.get("MEOW_DATA_DIR", "")) / name
    place = data_dir if folder is None else Path(folder).expanduser()
    where = f"MEOW_DATA_DIR={data_dir}" if folder is None else f"dataset.folder={folder}"
    if not place.is_dir():
        raise UserError(f"{where} is not a folder: {remedy}")
    if missing := [file for file in files if not (place / file).is_file()]:
        raise UserError(f"{where} lacks {', '.join(missing)}: {remedy}")
    return place


def required_text(entry: Entry, key: str, where: str) -> str:
    """Return a text of an entry, without blanks at its ends.

    Args:
        entry: The entry.
        key: Its key.
        where: Option, file and line, for error messages.

    Raises:
        UserError: The entry has no such text, or a blank one.
    """
    text = entry.get(key)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: {key} is missing or not a text; download the file again")
    return text.strip()
