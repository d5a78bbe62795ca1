"""Interface of metric sinks, and the sink that discards everything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


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

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Finish with final numbers and the report's folder, if any; returns a line for the user, possibly empty."""
        ...


class NullLogger:
    """Discards all metrics."""

    appends = False
    opening = ""

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Discard the point."""

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Return an empty line."""
        return ""
