"""The result of ``filter``: the inverted facts that are kept, and what was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from meow_lightning.stages.results.base import Result
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json, read_lines, write_lines
from meow_lightning.types import InvertedFact

INVERTED, SUMMARY = "inverted.jsonl", "cleaning.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSummary:
    """What a filter kept and dropped.

    Attributes:
        written: Number of candidates that the writer wrote.
        kept: Number of new inverted facts.
        filled: Number of candidates that rules added.
        dropped: Number of dropped candidates by reason.
        examples: Examples of dropped candidates by reason.
        counts: Number of inverted facts of each fact, including earlier rounds, by ``Fact.id``.
    """

    written: int
    kept: int
    filled: int
    dropped: Mapping[str, int]
    examples: Mapping[str, Any]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FilterResult(Result):
    """The inverted facts that are kept.

    Attributes:
        inverted: The inverted facts, those of earlier rounds first within each fact.
        summary: What was kept and dropped.
    """

    files = (INVERTED, SUMMARY)
    inverted: list[InvertedFact]
    summary: FilterSummary

    @property
    def answers(self) -> dict[str, list[str]]:
        """The inverted answers, by ``Fact.id`` and in order."""
        by_fact: dict[str, list[str]] = {}
        for each in self.inverted:
            by_fact.setdefault(each.fact, []).append(each.answer)
        return by_fact

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the inverted facts and their summary."""
        inverted = [InvertedFact(**row) for row in read_lines(folder / INVERTED)]
        return cls(inverted, FilterSummary(**read_json(folder / SUMMARY)))

    @classmethod
    def path(cls, folder: Path) -> Path:
        """Return the file of the inverted facts, which ``inversion=file`` reads as well."""
        return folder / INVERTED

    def write(self, folder: Path) -> None:
        """Write both."""
        write_lines(folder / INVERTED, map(asdict, self.inverted))
        write_json(folder / SUMMARY, asdict(self.summary))
