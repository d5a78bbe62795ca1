"""The result of ``predict``: the answers to the evaluation questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.evaluation.predictions import read_rows, write_rows
from meow_lightning.stages.results.base import Result
from meow_lightning.types import AnswerRow


@dataclass(frozen=True, slots=True)
class PredictResult(Result):
    """The predictions of one model: one row per question of every evaluation set."""

    file: ClassVar[str] = "rows.jsonl"
    files = (file,)
    rows: Sequence[AnswerRow]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the rows.

        Raises:
            UserError: The file does not exist, or a line is not a row.
        """
        return cls(read_rows(folder / cls.file))

    def write(self, folder: Path) -> None:
        """Write one line per question."""
        write_rows(folder / self.file, self.rows)
