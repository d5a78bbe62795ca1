"""Result of ``extract``: the attempts of an attack on every fact to forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.attacks.extraction import Attempts
from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True)
class ExtractResult(Result):
    """The attempts on every fact, in the order of the evaluation set."""

    file: ClassVar[str] = "attempts.jsonl"
    files = (file,)
    rows: Sequence[Attempts]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the attempts."""
        return cls([Attempts.from_json(row) for row in read_lines(folder / cls.file)])

    def write(self, folder: Path) -> None:
        """Write one line per fact."""
        write_lines(folder / self.file, map(asdict, self.rows))
