"""The curve of a stage: points with a step and values, one JSON line each, which trackers follow while it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

CURVE = "metrics.jsonl"


def append_point(folder: Path, point: Mapping[str, float]) -> None:
    """Append one point to the curve of a stage.

    Args:
        folder: The folder of the stage.
        point: ``step`` and values by name.
    """
    with (folder / CURVE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(point) + "\n")
