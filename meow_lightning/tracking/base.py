"""Interface of metric sinks, and the sink that discards everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from meow_lightning.types import Direction

Outcome = Literal["finished", "failed", "interrupted"]
"""How an execution ended; ``interrupted``: by CTRL-C or by a signal after which it is started again."""


@dataclass(frozen=True, slots=True)
class Number:
    """A final number of a run.

    Attributes:
        name: Its name in the sink.
        value: Its value.
        direction: Which values are better.
    """

    name: str
    value: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class QuestionTable:
    """Every question of a run before and after unlearning.

    Attributes:
        columns: Names of the columns.
        rows: The cells of each question: texts, numbers, or ``None`` where there is none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]


def no_questions() -> QuestionTable | None:
    """Return no table."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The end of an execution, as far as it got.

    Attributes:
        outcome: How it ended.
        numbers: Final numbers; empty if it did not get there.
        report: Folder of the report; ``None`` without one.
        questions: Reads the questions from the store, with texts; ``None`` where there are none.
        model: Folder of the unlearned model; ``None`` without one.
    """

    outcome: Outcome
    numbers: Sequence[Number] = ()
    report: Path | None = None
    questions: Callable[[], QuestionTable | None] = no_questions
    model: Path | None = None


class MetricSink(Protocol):
    """A destination of metrics.

    Attributes:
        appends: Whether it keeps points of earlier executions of the same run, so that none may be sent twice.
        opening: Line for the user about how it started; may be empty.
    """

    appends: bool
    opening: str

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Record one point of the curve ``name``; ``values`` contains ``step``."""
        ...

    def close(self, end: RunEnd) -> str:
        """Finish with the final results; returns a line for the user, possibly empty."""
        ...


class NullLogger:
    """Discards all metrics."""

    appends = False
    opening = ""

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Discard the point."""

    def close(self, end: RunEnd) -> str:
        """Return an empty line."""
        return ""
