"""The spread of a sweep over its seeds, measured at its end and written as a file that later reports read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from meow_lightning.pipeline.build import graph
from meow_lightning.report.data import number
from meow_lightning.report.sweep_tables import Swept, without_seed
from meow_lightning.report.tables import CLOSING
from meow_lightning.store.store import Store

LIBRARIES = ("torch", "transformers", "pytorch-lightning", "tokenizers")

Groups = Mapping[str, Sequence[Swept]]


def groups(cells: Sequence[Swept]) -> dict[str, list[Swept]]:
    """The cells that differ in the seed alone, by their other words; those of one seed are left out."""
    found: dict[str, list[Swept]] = {}
    for cell in cells:
        found.setdefault(without_seed(cell.name), []).append(cell)
    return {words: each for words, each in found.items() if len(each) > 1}


def nested(cells: Sequence[Swept]) -> dict[str, tuple[float, float]]:
    """(low, high) of the mean over cells that differ in the seed alone, over seeds and questions, by number.

    Empty where a cell's draws are not in the store: it was made by an earlier version.
    """
    from meow_lightning.evaluation.suite.bootstrap import over_seeds, percentiles
    from meow_lightning.stages.evaluate import DRAWS, read_draws

    paths = [_results(cell) / DRAWS for cell in cells]
    if not all(path.exists() for path in paths):
        return {}
    drawn, level = [read_draws(path) for path in paths], cells[0].settings["evaluation"]["level"]
    every = [name for name in drawn[0] if all(name in each for each in drawn)]
    return {name: percentiles(over_seeds([each[name] for each in drawn], seed=0), level=level) for name in every}


def write_spreads(found: Groups, path: Path, *, command: str) -> None:
    """Write the numbers of every group over its seeds, as :func:`~.report.spread.read_spreads` takes them.

    Args:
        found: As :func:`groups` gives them.
        path: The file.
        command: What was run.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    content = {
        "made": f"{time.strftime('%Y-%m-%d')}, {libraries}",
        "command": command,
        "cells": {words: _measured(cells) for words, cells in found.items()},
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    path.write_text(f"# Numbers of the unlearned model over seeds, as a sweep measured them.\n{text}", encoding="utf-8")


def _measured(cells: Sequence[Swept]) -> dict[str, Any]:
    values = {name: [number(cell.results, "unlearned", name) for cell in cells] for name in CLOSING}
    return {
        "settings": graph(cells[0].settings).report.settings["digest"],
        "seeds": [cell.settings["seed"] for cell in cells],
        "numbers": {name: each for name, each in values.items() if None not in each},
        "intervals": {name: list(ends) for name, ends in nested(cells).items() if name in CLOSING},
    }


def _results(cell: Swept) -> Path:
    return Store(root=Path(cell.settings["store"]), cache="readonly").path(graph(cell.settings).results)
