"""Points of a training curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meow_lightning.training.meter import MEMORY, TOKENS_PER_SECOND


def learned(points: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The points with a loss, without what depends on the machine's speed and memory."""
    machine = {TOKENS_PER_SECOND, MEMORY}
    return [
        {name: value for name, value in point.items() if name not in machine} for point in points if "loss" in point
    ]
