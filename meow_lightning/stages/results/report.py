"""The result of ``report``: pages, tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from meow_lightning.report.page import TABLES
from meow_lightning.stages.results.base import Result
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json
from meow_lightning.tracking.disclosure import PAGE

ROUNDS = "rounds.json"


@dataclass(frozen=True, slots=True)
class ReportResult(Result):
    """A report.

    Attributes:
        page: Its page.
        rounds: The rounds of a method that unlearns in rounds, with a ``sentence`` about them; else ``None``.
    """

    files = (PAGE, *TABLES)
    page: Path
    rounds: Mapping[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read all but the page."""
        return cls(folder / PAGE, read_json(folder / ROUNDS) if (folder / ROUNDS).exists() else None)

    def write(self, folder: Path) -> None:
        """Write the rounds, if any; :func:`meow_lightning.report.page.write_report` writes the other files."""
        if self.rounds is not None:
            write_json(folder / ROUNDS, self.rounds)
