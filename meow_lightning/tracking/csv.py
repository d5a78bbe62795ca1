"""Metrics as CSV files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.folders import owner_only


class Csv:
    """Writes ``<folder>/<cell>.csv`` with the columns curve, step, name, value.

    Args:
        folder: Where the file goes.
        cell: Its stem.
        private: Whether it is for its owner's eyes alone.
    """

    appends = False
    opening = ""

    def __init__(self, *, folder: Path, cell: str, private: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._private = private
        self.path = folder / f"{cell}.csv"
        self._rows: list[tuple[str, Any, str, float]] = []

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Keep one point."""
        self._rows += [(name, values.get("step"), key, value) for key, value in values.items() if key != "step"]

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Write the file, replacing that of an earlier run of the same cell; a failed run leaves that one alone."""
        if not ok:
            return ""
        side = self.path.with_suffix(".tmp")
        with owner_only(self._private), side.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("curve", "step", "name", "value"))
            writer.writerows(self._rows)
            writer.writerows(("summary", "", key, value) for key, value in summary.items())
        side.replace(self.path)
        return f"curves: {self.path}"
