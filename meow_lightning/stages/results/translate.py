"""Result of ``translate``: every translation of a question, and why some cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from meow_lightning.stages.results.base import Result
from meow_lightning.store.jsonl import read_lines, write_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedQuestion:
    """A translation.

    Attributes:
        fact: Identifier of the fact.
        question: Its question.
        language: The language.
        text: The translation; empty if there is none.
        reason: Why it cannot be asked; empty if it can.
    """

    fact: str
    question: str
    language: str
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class TranslateResult(Result):
    """The translations, question by question and language by language."""

    file: ClassVar[str] = "translations.jsonl"
    files = (file,)
    rows: Sequence[TranslatedQuestion]

    @property
    def usable(self) -> dict[str, list[str]]:
        """The translations that can be asked, by identifier of the fact."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            if not row.reason:
                found.setdefault(row.fact, []).append(row.text)
        return found

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the translations."""
        return cls([TranslatedQuestion(**row) for row in read_lines(folder / cls.file)])

    def write(self, folder: Path) -> None:
        """Write one line per question and language."""
        write_lines(folder / self.file, map(asdict, self.rows))
