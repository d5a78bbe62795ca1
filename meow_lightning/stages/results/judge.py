"""Result of ``judge``: the answers of a model and its proxy, and what a language model says about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.evaluation.reading_judge import Reading
from meow_lightning.evaluation.slim import SlimRow
from meow_lightning.stages.results.base import Result
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class JudgeResult(Result):
    """One row and one reading per question, in the order of the evaluation sets."""

    readings_file: ClassVar[str] = "readings.jsonl"
    files = (SlimResult.file, readings_file)
    rows: Sequence[SlimRow]
    readings: Sequence[Reading]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read both."""
        return cls(SlimResult.read(folder).rows, [Reading(**row) for row in read_lines(folder / cls.readings_file)])

    def write(self, folder: Path) -> None:
        """Write one line per question into either file."""
        SlimResult(self.rows).write(folder)
        write_lines(folder / self.readings_file, map(asdict, self.readings))
