"""Rows that each process appends to its own file; the files are merged at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.distributed import rank
from meow_lightning.store.durable import checked_line, checked_lines, drop_partial_last_line
from meow_lightning.store.jsonl import write_lines

PARTS = "part"  # beginning of the names of the files with the rows of a stage


class Parts:
    """Rows finished so far, appended by each process to its own file, readable after a kill or a power loss.

    Args:
        folder: The stage's folder.
        index: Key in each row that identifies it, such as a number.
        name: Beginning of the names of the files.

    Attributes:
        done: The complete rows by their index.
        damaged: Number of damaged lines.
    """

    def __init__(self, folder: Path, *, index: str, name: str) -> None:
        self.folder, self.index, self.name = folder, index, name
        drop_partial_last_line(self._path)
        self.done, self.damaged = self._read()

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.name}-{rank()}.jsonl"

    def _read(self) -> tuple[dict[Any, dict[str, Any]], int]:
        read = [checked_lines(path) for path in sorted(self.folder.glob(f"{self.name}-*.jsonl"))]
        rows = {row[self.index]: row for each in read for row in each.rows}
        return rows, sum(each.damaged for each in read)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append finished rows."""
        lines = "".join(map(checked_line, rows))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)

    def rows(self) -> list[dict[str, Any]]:
        """Read the rows of all processes in order of their index, without the index."""
        rows, _ = self._read()
        return [{key: value for key, value in rows[i].items() if key != self.index} for i in sorted(rows)]

    def merge(self, path: Path) -> list[dict[str, Any]]:
        """Write the rows of all processes to ``path`` in order of their index, without the index; returns them.

        The parts are kept until the result is sealed, so a run that is killed before loses nothing.
        """
        ordered = self.rows()
        write_lines(path, ordered)
        return ordered
