"""Result of ``slim``: what a model and its proxy answered, and what the model answered with retrieved passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.evaluation.slim import SlimRow
from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class SlimResult(Result):
    """One row per question with a marked value, in the order of the evaluation sets."""

    file: ClassVar[str] = "questions.jsonl"
    files = (file,)
    rows: Sequence[SlimRow]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the rows."""
        return cls([SlimRow.from_json(row) for row in read_lines(folder / cls.file)])

    def write(self, folder: Path) -> None:
        """Write one line per question."""
        write_lines(folder / self.file, map(asdict, self.rows))
