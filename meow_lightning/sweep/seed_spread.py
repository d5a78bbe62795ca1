"""Spread of a sweep over its seeds, written to a file that later reports read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from meow_lightning.report.data import number
from meow_lightning.report.sweep_tables import Nested, Swept, by_row
from meow_lightning.report.tables import CLOSING
from meow_lightning.store.durable import write_text

LIBRARIES = ("torch", "transformers", "pytorch-lightning", "tokenizers")

Groups = Mapping[str, Sequence[Swept]]


def groups(runs: Sequence[Swept]) -> dict[str, list[Swept]]:
    """Group the runs that differ only in the seed, by their other options; groups with a single seed are left out."""
    return {words: group for words, group in by_row((run.name, run) for run in runs).items() if len(group) > 1}


def interval_over_seeds(folders: Sequence[Path], *, confidence_level: float) -> dict[str, tuple[float, float]]:
    """Compute the interval (low, high) of the mean over seeds and questions, by number.

    Args:
        folders: The stored metrics of runs that differ only in the seed.
        confidence_level: Share of the mean's distribution inside the interval.
    """
    from meow_lightning.evaluation.suite.bootstrap import over_seeds, percentiles
    from meow_lightning.stages.results.evaluate import EvaluateResult

    drawn = [EvaluateResult.read_draws(folder) for folder in folders]
    shared = [name for name in drawn[0] if all(name in each for each in drawn)]
    return {
        name: percentiles(over_seeds([each[name] for each in drawn], seed=0), confidence_level=confidence_level)
        for name in shared
    }


def question_intervals(folder: Path) -> dict[str, list[float]]:
    """Read the intervals (low, high) over questions of a run's unlearned model, by number; empty without results.

    Args:
        folder: Folder of the run's metrics.
    """
    from meow_lightning.stages.results.evaluate import EvaluateResult

    if not folder.is_dir():
        return {}
    intervals: dict[str, list[float]] = EvaluateResult.read(folder).intervals.get("unlearned", {})
    return intervals


def write_spreads(
    grouped: Groups, path: Path, *, digests: Mapping[str, str], intervals: Nested, command: str
) -> None:  # fmt: skip
    """Write the numbers of every group over its seeds, in the form that ``report.seed_spread`` reads.

    Args:
        grouped: The groups, as returned by :func:`groups`.
        path: The file to write.
        digests: Digest of the settings of every group's runs.
        intervals: Interval of the mean over seeds and questions, by group and number.
        command: The command line of the sweep.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    content = {
        "made": f"{time.strftime('%Y-%m-%d')}, {libraries}",
        "command": command,
        "runs": {words: _measured(runs, digests[words], intervals[words]) for words, runs in grouped.items()},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, f"# Metrics of the unlearned model over the seeds of a sweep.\n{text}")


def _measured(runs: Sequence[Swept], digest: str, intervals: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    values = {name: [number(run.results, "unlearned", name) for run in runs] for name in CLOSING}
    return {
        "settings": digest,
        "seeds": [run.config.seed for run in runs],
        "numbers": {name: each for name, each in values.items() if None not in each},
        "intervals": {name: list(ends) for name, ends in intervals.items() if name in CLOSING},
    }
