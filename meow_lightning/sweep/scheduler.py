"""A sweep through jobs: what is finished costs none, what is shared is made once, a failure stops what needs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.config.runtime import runtime_of
from meow_lightning.console.console import Terminal
from meow_lightning.errors import UserError, check_choice
from meow_lightning.experiment import plain_name, prepare, read_results
from meow_lightning.pipeline.graph import Graph
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import make_folder, restrict_to_owner
from meow_lightning.store.store import Store
from meow_lightning.sweep.jobs import Task, dependency_layers, missing
from meow_lightning.sweep.queue import Queue
from meow_lightning.types import Results

Ended = tuple[Results | None, Exception | None]


@dataclass
class _Cell:
    options: Mapping[str, Any]
    graph: Graph
    store: Store
    lacks: list[Artifact]
    error: Exception | None = None


def launch(cells: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> list[Ended]:
    """(numbers, error) of every cell after its jobs ended; a finished cell costs no job.

    Args:
        cells: Resolved options of the cells.
        options: ``hydra.launcher``.

    Raises:
        UserError: The launcher's options cannot be, or do not fit the cells'.
    """
    check(options)
    with Terminal(title="jobs") as terminal:
        preflights = PreflightChecks()
        planned = [_planned(each, options, preflights) for each in cells]
        ready = [each for each in planned if isinstance(each, _Cell)]
        open_ = [each for each in ready if each.lacks]
        if done := len(ready) - len(open_):
            terminal.say(f"{done} of {len(cells)} cells are finished already")
        if open_:
            # What jobs are given and what they print may hold texts of their datasets.
            folder, private = Path(options["folder"]), any(each.graph.report.private for each in open_)
            make_folder(folder, private=private)
            queue = Queue(options, name=f"meow-{open_[0].graph.name}"[:60], tell=terminal.say)
            _shared(open_, queue, options)
            whole = [each for each in open_ if each.error is None]
            tasks = [_task(each, None, options) for each in whole]
            for each, error in zip(whole, queue.run(tasks, what="cell"), strict=True):
                each.error = error
            if private:
                restrict_to_owner(folder)
    return [_ended(each) for each in planned]


def check(options: Mapping[str, Any]) -> None:
    """Nothing, when the launcher's options can be.

    Args:
        options: ``hydra.launcher``.

    Raises:
        UserError: They cannot.
    """
    check_choice("hydra.launcher.cluster", options["cluster"], ("slurm", "local"))
    for name, least in (("parallel", 1), ("nodes", 1), ("gpus", 0), ("minutes", 1), ("requeues", 0), ("warn", 0)):
        value = options[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"hydra.launcher.{name}={value} is too small; a whole number of at least {least} is needed")
    if options["cluster"] == "local" and options["nodes"] > 1:
        raise UserError(f"hydra.launcher.nodes={options['nodes']}: this machine is one node; say hydra/launcher=slurm")


def check_devices(options: Mapping[str, Any], launcher: Mapping[str, Any]) -> None:
    """Nothing, when a job has what its cell computes on.

    Args:
        options: Resolved options of a cell.
        launcher: ``hydra.launcher``.

    Raises:
        UserError: It has not.
    """
    trainer, name = options["trainer"], f"hydra/launcher={launcher['cluster']}"
    if trainer["nodes"] != launcher["nodes"]:
        raise UserError(
            f"trainer.nodes={trainer['nodes']} and hydra.launcher.nodes={launcher['nodes']} must be the same ({name})"
        )
    if trainer["accelerator"] != "gpu":
        return
    there = launcher["nodes"] * launcher["gpus"]
    if launcher["cluster"] == "slurm" and there != trainer["devices"]:
        raise UserError(
            f"a job gets {there} GPUs (hydra.launcher.nodes x gpus) and trainer.devices={trainer['devices']} wants as "
            "many as it says; make them the same"
        )
    if launcher["cluster"] == "local" and launcher["parallel"] * trainer["devices"] > there:
        raise UserError(
            f"hydra.launcher.parallel={launcher['parallel']} jobs of trainer.devices={trainer['devices']} need more "
            f"than hydra.launcher.gpus={there}; say fewer jobs, or how many GPUs there are"
        )


def _planned(options: Mapping[str, Any], launcher: Mapping[str, Any], preflights: PreflightChecks) -> _Cell | Exception:
    """A cell with what it lacks, or what is wrong with it; models that are given are fetched here, not by every job."""
    try:
        runtime_of(options)
        check_devices(options, launcher)
        made, wanted = prepare(options)
        store = Store(root=Path(options["store"]), cache=options["cache"])
        store.check_writable()
        elsewhere = {**options, "preflight": False}  # memory and GPUs are looked at where the job runs
        preflights.fetch(preflights.of(elsewhere, made, store), wanted)
        return _Cell(options, made, store, missing(wanted, store))
    except UserError as error:
        return error


def _shared(cells: Sequence[_Cell], queue: Queue, launcher: Mapping[str, Any]) -> None:
    """Make what several cells lack; who needs what failed gets its error."""
    for number, layer in enumerate(dependency_layers([each.lacks for each in cells]), start=1):
        tasks, results = [], []
        for place, artifact in layer:
            if cells[place].error is None:
                tasks.append(_task(cells[place], artifact, launcher))
                results.append(artifact)
        for artifact, error in zip(results, queue.run(tasks, what=f"shared stage, layer {number},"), strict=True):
            for each in cells if error is not None else ():
                if each.error is None and artifact.key in {need.key for need in each.lacks}:
                    each.error = error


def _task(cell: _Cell, artifact: Artifact | None, launcher: Mapping[str, Any]) -> Task:
    name = cell.graph.name if artifact is None else f"{artifact.stage} {artifact.label}".strip()
    key = cell.graph.report.key if artifact is None else artifact.key
    path = Path(launcher["folder"]).resolve() / "ended" / f"{plain_name(name)}-{key}.json"
    keys = None if artifact is None else (artifact.key,)
    return Task(name=name, options=cell.options, keys=keys, outcome=str(path), visible=None)


def _ended(cell: _Cell | Exception) -> Ended:
    if isinstance(cell, Exception):
        return None, cell
    if cell.error is not None:
        return None, cell.error
    return read_results(cell.store, cell.graph), None
