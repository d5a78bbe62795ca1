"""A destination of metrics, and the one that discards them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class MetricSink(Protocol):
    """Where points go.

    Attributes:
        appends: Whether it adds to what earlier runs of the same cell sent, so that nothing may be sent twice.
        opening: A line for the user about how it began, may be empty.
    """

    appends: bool
    opening: str

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """One point of the curve ``name``; ``values`` holds ``step``."""
        ...

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """The end: final numbers, the report's folder when there is one. Returns a line for the user, may be empty."""
        ...


class NullLogger:
    """Keeps nothing."""

    appends = False
    opening = ""

    def point(self, name: str, values: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self, *, ok: bool, summary: Mapping[str, float], report: Path | None) -> str:
        """Nothing to say."""
        return ""
