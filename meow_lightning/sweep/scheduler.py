"""Scheduling of a sweep as jobs: shared results are computed once, and a failure only stops what depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.training_options import Launcher
from meow_lightning.console.console import Terminal
from meow_lightning.errors import UserError
from meow_lightning.experiment import prepare, read_results
from meow_lightning.pipeline.failures import plain_name
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import make_folder, restrict_to_owner
from meow_lightning.store.store import Store
from meow_lightning.sweep.jobs import Task, dependency_layers, missing
from meow_lightning.sweep.queue import Queue
from meow_lightning.types import Results

Ended = tuple[Results | None, Exception | None]


@dataclass
class _Run:
    config: RunConfig
    graph: RunGraph
    store: Store
    missing: list[Artifact]
    error: Exception | None = None


def launch(runs: Sequence[RunConfig], launcher: Launcher) -> list[Ended]:
    """Execute runs as jobs; returns (numbers, error) of every run. Finished runs need no job.

    Args:
        runs: The options of the runs.
        launcher: ``hydra.launcher``.

    Raises:
        UserError: The launcher cannot submit jobs here.
    """
    with Terminal(title="jobs") as terminal:
        preflights = PreflightChecks()
        planned = [_planned(each, launcher, preflights) for each in runs]
        ready = [each for each in planned if isinstance(each, _Run)]
        open_ = [each for each in ready if each.missing]
        if done := len(ready) - len(open_):
            terminal.say(f"{done} of {len(runs)} runs are already finished")
        if open_:
            # Inputs and outputs of jobs may contain texts of private datasets.
            folder, private = Path(launcher.folder), any(each.graph.report.private for each in open_)
            make_folder(folder, private=private)
            queue = Queue(launcher, name=f"meow-{open_[0].graph.name}"[:60], notify=terminal.say)
            _run_probes([each for each in open_ if not each.graph.probed], queue, launcher)
            _run_shared(open_, queue, launcher)
            runnable = [each for each in open_ if each.error is None]
            tasks = [_task(each, None, launcher) for each in runnable]
            for each, error in zip(runnable, queue.run(tasks, label="run"), strict=True):
                each.error = error
            if private:
                restrict_to_owner(folder)
    return [_ended(each) for each in planned]


def check_devices(config: RunConfig, launcher: Launcher) -> None:
    """Check that a job gets the devices that its run uses.

    Args:
        config: The options of a run.
        launcher: ``hydra.launcher``.

    Raises:
        UserError: The launcher requests other nodes or GPUs than the run uses.
    """
    trainer, name = config.trainer, f"hydra/launcher={launcher.cluster}"
    if trainer.nodes != launcher.nodes:
        raise UserError(
            f"trainer.nodes={trainer.nodes} and hydra.launcher.nodes={launcher.nodes} must be equal ({name})"
        )
    if trainer.accelerator != "gpu":
        return
    available = launcher.nodes * launcher.gpus_per_node
    if launcher.cluster == "slurm" and available != trainer.devices:
        raise UserError(
            f"hydra.launcher.nodes x gpus_per_node = {available} GPUs per job and trainer.devices="
            f"{trainer.devices} must be equal"
        )
    if launcher.cluster == "local" and launcher.array_parallelism * trainer.devices > available:
        raise UserError(
            f"hydra.launcher.array_parallelism={launcher.array_parallelism} jobs of "
            f"trainer.devices={trainer.devices} require more than hydra.launcher.gpus_per_node={available} GPUs: "
            "reduce array_parallelism, or set gpus_per_node to the number of GPUs of this machine"
        )


def _planned(config: RunConfig, launcher: Launcher, preflights: PreflightChecks) -> _Run | Exception:
    """Plan a run, or return the error. Provided models are fetched here rather than by every job."""
    try:
        check_devices(config, launcher)
        graph, wanted = prepare(config)
        store = Store(root=Path(config.store), cache=config.cache)
        store.check_writable()
        remote = config.model_copy(
            update={"preflight": False}
        )  # memory and GPUs are checked on the machine that runs the job
        preflights.fetch(preflights.of(remote, graph, store), wanted)
        return _Run(config, graph, store, missing(wanted, store))
    except UserError as error:
        return error


def _run_probes(runs: Sequence[_Run], queue: Queue, launcher: Launcher) -> None:
    """Ask the target models of runs whose facts depend on the answers, and plan these runs again."""
    probes = {each.graph.probe.key: (each, each.graph.probe) for each in runs if each.graph.probe is not None}
    tasks = [_task(run, probe, launcher) for run, probe in probes.values()]
    errors = dict(zip(probes, queue.run(tasks, label="probe"), strict=True)) if tasks else {}
    for each in runs:
        try:
            each.error = errors[each.graph.probe.key] if each.graph.probe is not None else None
            if each.error is None:
                each.graph, wanted = prepare(each.config)
                each.missing = missing(wanted, each.store)
        except UserError as error:
            each.error = error


def _run_shared(runs: Sequence[_Run], queue: Queue, launcher: Launcher) -> None:
    """Compute missing results that several runs share; a failure is recorded on every run that needs the result."""
    for number, layer in enumerate(dependency_layers([each.missing for each in runs]), start=1):
        tasks, results = [], []
        for place, artifact in layer:
            if runs[place].error is None:
                tasks.append(_task(runs[place], artifact, launcher))
                results.append(artifact)
        for artifact, error in zip(results, queue.run(tasks, label=f"shared stage, layer {number},"), strict=True):
            for each in runs if error is not None else ():
                if each.error is None and artifact.key in {need.key for need in each.missing}:
                    each.error = error


def _task(run: _Run, artifact: Artifact | None, launcher: Launcher) -> Task:
    name = run.graph.name if artifact is None else f"{artifact.stage} {artifact.label}".strip()
    key = run.graph.report.key if artifact is None else artifact.key
    path = Path(launcher.folder).resolve() / "ended" / f"{plain_name(name)}-{key}.json"
    keys = None if artifact is None else (artifact.key,)
    return Task(name=name, config=run.config, keys=keys, outcome=str(path), visible=None)


def _ended(run: _Run | Exception) -> Ended:
    if isinstance(run, Exception):
        return None, run
    if run.error is not None:
        return None, run.error
    return read_results(run.store, run.graph), None
