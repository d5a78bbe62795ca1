"""Offline runs of W&B as a person would see them, read back by W&B's own `wandb leet inspect`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Recorded:
    """An offline run.

    Attributes:
        run: Names of the run: `run_id`, `run_group`, `job_type`, `tags`, `display_name`, `project`.
        config: Its options.
        summary: The last value of everything that was logged.
        history: The logged points, in order.
        directions: `max` or `min` by name of a final number.
        axes: Name of the step by prefix of a curve.
        artifacts: Paths of the files by name of an artifact.
        exit_code: Exit status; `None` for a run that never ended.
    """

    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    directions: dict[str, str] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, list[str]] = field(default_factory=dict)
    exit_code: int | None = None

    def curve(self, x: str, y: str) -> list[tuple[float, float]]:
        """The points of a line plot."""
        return [(point[x], point[y]) for point in self.history if y in point]


def recorded(folder: Path) -> Recorded:
    """Read an offline run.

    Args:
        folder: Its folder, `offline-run-…`.
    """
    (file,) = folder.glob("run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = Recorded()
    for line in done.stdout.splitlines():
        record = json.loads(line)
        content = record.get(record["type"], {})
        match record["type"]:
            case "run":
                found.run = content
                found.config = {name: value for name, value in content["config"]["update"].items() if name != "_wandb"}
            case "summary":
                found.summary |= content.get("update", {})
            case "history":
                found.history.append(content["item"])
            case "metric" if "glob_name" in content:
                found.axes[content["glob_name"]] = content["step_metric"]
            case "metric" if "summary" in content:
                (found.directions[content["name"]],) = content["summary"]
            case "artifact":
                contents = content["manifest"].get("contents", [])
                found.artifacts[content["name"]] = [each["path"] for each in contents]
            case "exit":
                found.exit_code = content.get("exit_code", 0)
    return found


def offline_runs(runs: Path) -> list[Path]:
    """List the folders of the offline runs below a folder of runs, the oldest first."""
    return sorted((runs / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
