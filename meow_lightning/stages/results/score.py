"""The result of ``score``: the memorization of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines
from meow_lightning.types import ScoredText


@dataclass(frozen=True, slots=True)
class ScoreResult(Result):
    """The scores of texts, in the order of the texts; empty if there was no text to score."""

    file: ClassVar[str] = "scores.jsonl"
    files = (file,)
    texts: Sequence[ScoredText]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the scores."""
        rows = read_lines(folder / cls.file)
        return cls([ScoredText(**{**row, "windows": tuple(row["windows"])}) for row in rows])

    def write(self, folder: Path) -> None:
        """Write one line per text."""
        write_lines(folder / self.file, map(asdict, self.texts))
