"""JSON and JSON-lines files that survive a kill during a write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.durable import replace_atomically


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON lines of a file, without a last line cut off by a kill; nothing if the file does not exist."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)


def read_json(path: Path) -> Any:
    """Read the JSON value of a file written by a stage."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines atomically."""
    side = path.with_name(path.name + ".tmp")
    with side.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace_atomically(side, path)
