"""The result of ``probe``: the target model's answers to the questions of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.data.probed import ProbedAnswer, read_answers
from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import write_lines


@dataclass(frozen=True, slots=True)
class ProbeResult(Result):
    """One answer per question, by fact and in the order of the questions."""

    file: ClassVar[str] = "answers.jsonl"
    files = (file,)
    answers: Mapping[str, ProbedAnswer]

    @classmethod
    def path(cls, folder: Path) -> Path:
        """Return the path of the answers, which the dataset reads."""
        return folder / cls.file

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the answers."""
        return cls(read_answers(cls.path(folder)))

    def write(self, folder: Path) -> None:
        """Write one line per question."""
        write_lines(self.path(folder), map(asdict, self.answers.values()))
