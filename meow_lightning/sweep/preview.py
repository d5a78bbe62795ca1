"""A sweep looked at as a whole, before or while it runs: one plan, or how all of its cells stand; makes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meow_lightning.config.runtime import runtime_of
from meow_lightning.config.validation import resolved
from meow_lightning.console.plan import Planned, show_sweep_plan
from meow_lightning.console.status import show_cells
from meow_lightning.errors import UserError
from meow_lightning.experiment import prepare
from meow_lightning.pipeline.failures import reason
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.state import Cell
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


def preview(cells: Sequence[tuple[str, Any]]) -> None:
    """Nothing, after showing how cells stand or what they would make.

    Args:
        cells: The words and the composed config of every cell; all of them say ``status`` or ``plan``.

    Raises:
        UserError: Cells that were to be planned cannot be, with the list; after all others are shown.
    """
    ready, failed = [], []
    for name, config in cells:
        try:
            options = resolved(config)
            ready.append((name, options, *prepare(options)))
        except Exception as error:  # noqa: BLE001 - told below; the other cells are shown all the same
            failed.append((name, reason(error)))
    if any(config.plan for _, config in cells):
        _plan(ready, failed)
    else:
        show_cells([Cell.of(name, cell, made, options) for name, options, cell, made in ready], failed)


def _plan(
    ready: Sequence[tuple[str, Mapping[str, Any], RunGraph, Sequence[Artifact]]], failed: Sequence[tuple[str, str]]
) -> None:
    """Show the plan of the cells that can be, and why the others cannot; ``failed`` are those known beforehand."""
    preflights = PreflightChecks()
    planned, unfit = [], list(failed)
    for name, options, cell, artifacts in ready:
        try:
            runtime_of(options)
            store = Store(root=Path(options["store"]), cache=options["cache"])
            preflight = preflights.of(options, cell, store)
            making = store.cache != "readonly"
            if making:
                preflights.fetch(preflight, artifacts)
            planned.append(Planned(name, preflight, artifacts))
            if making and options["preflight"]:
                preflight.check(artifacts)
        except UserError as error:
            unfit.append((name, reason(error)))
    show_sweep_plan(planned, unfit)
    if unfit:
        many = len(ready) + len(failed)
        raise UserError(f"{len(unfit)} of {many} cells failed: {'; '.join(name for name, _ in unfit)}")
