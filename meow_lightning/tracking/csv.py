"""CSV files as a metric sink."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.folders import owner_only
from meow_lightning.tracking.base import RunEnd


class Csv:
    """Writes ``<folder>/<run>.csv`` with the columns curve, step, name, value.

    Args:
        folder: Folder of the file.
        run: Stem of the file name.
        private: Whether only the owner may read the file.
    """

    appends = False
    opening = ""

    def __init__(self, *, folder: Path, run: str, private: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._private = private
        self.path = folder / f"{run}.csv"
        self._rows: list[tuple[str, Any, str, float]] = []

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Keep one point."""
        self._rows += [(name, values.get("step"), key, value) for key, value in values.items() if key != "step"]

    def close(self, end: RunEnd) -> str:
        """Write the file, replacing that of an earlier execution; only a finished execution changes it."""
        if end.outcome != "finished":
            return ""
        side = self.path.with_suffix(".tmp")
        with owner_only(self._private), side.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("curve", "step", "name", "value"))
            writer.writerows(self._rows)
            writer.writerows(("summary", "", each.name, each.value) for each in end.numbers)
        side.replace(self.path)
        return f"curves: {self.path}"
