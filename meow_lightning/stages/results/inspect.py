"""Result of ``inspect``: per-layer values of one model for every fact to forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.evaluation.layers import LayerRow
from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class InspectResult(Result):
    """One row per question of the forget set."""

    file: ClassVar[str] = "layers.jsonl"
    files = (file,)
    rows: Sequence[LayerRow]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the rows."""
        return cls([LayerRow(**row) for row in read_lines(folder / cls.file)])

    def write(self, folder: Path) -> None:
        """Write one line per question."""
        write_lines(folder / self.file, map(asdict, self.rows))
