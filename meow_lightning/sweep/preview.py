"""Plan or status of a sweep, before or while it runs; computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import resolved
from meow_lightning.console.console import print_notes, shorten_runs
from meow_lightning.console.plan import Planned, show_sweep_plan
from meow_lightning.console.status import show_runs
from meow_lightning.errors import UserError
from meow_lightning.experiment import caveats, describe_facts, prepare
from meow_lightning.pipeline.failures import reason
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.state import RunArtifacts
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


def preview(runs: Sequence[tuple[str, Any]]) -> None:
    """Show the status of runs, or what they would compute.

    Args:
        runs: The name and the composed config of every run, all with ``status`` or ``plan``.

    Raises:
        UserError: Some runs cannot be planned; raised after the others are shown.
    """
    ready, failed = [], []
    for name, config in runs:
        try:
            options = resolved(config)
            ready.append((name, options, *prepare(options)))
        except Exception as error:  # noqa: BLE001 - shown below with the other runs
            failed.append((name, reason(error)))
    if any(config.plan for _, config in runs):
        _plan(ready, failed)
    else:
        show_runs(
            [RunArtifacts.of(name, run, artifacts, options.plain()) for name, options, run, artifacts in ready], failed
        )


def _plan(
    ready: Sequence[tuple[str, RunConfig, RunGraph, Sequence[Artifact]]], failed: Sequence[tuple[str, str]]
) -> None:
    """Show the plan of the valid runs and the errors of the others; ``failed`` lists the known ones."""
    preflights = PreflightChecks()
    planned, invalid = [], list(failed)
    for name, options, run, artifacts in ready:
        try:
            store = Store(root=Path(options.store), cache=options.cache)
            preflight = preflights.of(options, run, store)
            computing = store.cache != "readonly"
            if computing:
                preflights.fetch(preflight, artifacts)
            planned.append(Planned(name, preflight, artifacts))
            if computing and options.preflight:
                preflight.check(artifacts)
        except UserError as error:
            invalid.append((name, reason(error)))
    notes = [note for _, _, run, goal in ready for note in (*describe_facts(run), *caveats(run, goal))]
    print_notes(list(dict.fromkeys(notes)))
    show_sweep_plan(planned, invalid)
    if invalid:
        total = len(ready) + len(failed)
        raise UserError(f"{len(invalid)} of {total} runs failed: {shorten_runs([name for name, _ in invalid])}")
