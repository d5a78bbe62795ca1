"""The result of ``verify``: windows with their stored and recomputed scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class Checked:
    """One window: its stored score and its recomputed score.

    Attributes:
        fact: Fact of the text.
        kind: ``answer`` or ``candidate``.
        position: Candidate position of the text.
        window: Index of the window within the text, from 0.
        stored: Score by the generation engine, 0 to 1.
        plain: Score by the plain reference loop, 0 to 1.
    """

    fact: str
    kind: str
    position: int
    window: int
    stored: float
    plain: float


@dataclass(frozen=True, slots=True)
class VerifyResult(Result):
    """The checked windows, in the order of texts and windows."""

    file: ClassVar[str] = "checked.jsonl"
    files = (file,)
    windows: Sequence[Checked]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the checked windows."""
        return cls([Checked(**row) for row in read_lines(folder / cls.file)])

    def write(self, folder: Path) -> None:
        """Write one line per window."""
        write_lines(folder / self.file, map(asdict, self.windows))
