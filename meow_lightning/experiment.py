"""Runs one cell from its resolved options: plan it, make what lacks, show and keep what came out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig

from meow_lightning.config.recipes import RECIPE
from meow_lightning.config.runtime import runtime_of
from meow_lightning.config.validation import resolved
from meow_lightning.console.console import Terminal, print_notes
from meow_lightning.console.plan import Planned, show_plan
from meow_lightning.console.status import show_cell
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.candidates import accept_shortage, may_continue, suggestions, too_few
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.failures import plain_name, recording_failures
from meow_lightning.pipeline.graph import RunGraph, required_artifacts
from meow_lightning.pipeline.state import Cell
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.report.seed_spread import Spread, spread_sentence
from meow_lightning.stages.base import mixed_versions
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import make_folder, owner_only
from meow_lightning.store.jsonl import read_json
from meow_lightning.store.store import Cache, Store
from meow_lightning.tracking.base import MetricSink, NullLogger
from meow_lightning.tracking.csv import Csv
from meow_lightning.tracking.disclosure import shareable
from meow_lightning.tracking.tracker import Told, Tracker
from meow_lightning.tracking.wandb import RunName, Wandb
from meow_lightning.types import Results


def _sink(options: Mapping[str, Any], cell: RunGraph) -> MetricSink:
    logger, runs, private = options["logger"], Path(options["outputs"]) / "runs", cell.report.private
    if logger["name"] == "none":
        return NullLogger()
    if logger["name"] == "csv":
        return Csv(folder=runs, cell=cell.tag, private=private)
    texts = not private if logger["texts"] is None else logger["texts"]
    group = logger["group"] or cell.name.rsplit("-", 2)[0]
    run = RunName(project=logger["project"], group=group, name=cell.name, key=cell.report.key)
    config = _config(options, cell)
    return Wandb(folder=runs, run=run, mode=logger["mode"], config=config, texts=texts, private=private)


def _config(options: Mapping[str, Any], cell: RunGraph) -> dict[str, Any]:
    """The options that W&B is told, with the rate, epochs and batch that unlearning used in the place of nulls."""
    used = {name: cell.report.settings["options"]["optim"][name] for name in RECIPE}
    config = {**options, "optim": {**options["optim"], **used}}
    return shareable(config) if cell.report.private else config


def _destination(options: Mapping[str, Any]) -> str:
    """Where a logger sends, as a part of a file's name: told there once is not told elsewhere."""
    logger = options["logger"]
    return "-".join(plain_name(logger[name]) for name in ("name", "project", "mode", "texts") if name in logger)


def prepare(options: Mapping[str, Any]) -> tuple[RunGraph, list[Artifact]]:
    """(the artifacts of a cell, those that its goal asks for), after all checks that need no machine.

    Raises:
        UserError: For options that cannot be.
    """
    check_choice("cache", options["cache"], get_args(Cache))
    if options["plan"] and options["status"]:
        raise UserError("plan=true shows what would run and status=true what runs now; say one of them")
    cell = graph(options)
    return cell, cell.goal(options["goal"])


class Program:
    """What lives as long as the program: an executor with its helper processes, shared by a sweep's cells."""

    def __init__(self) -> None:
        self._executors: dict[str, Executor] = {}

    def executor(self, options: Mapping[str, Any]) -> Executor:
        """The executor for these options, with nobody watching."""
        settings, trainer = runtime_of(options), options["trainer"]
        store = Store(root=Path(options["store"]), cache=options["cache"])
        key = json.dumps([str(store.root), store.cache, vars(settings), trainer["jobs"], trainer["threads"]])
        if key not in self._executors:
            self.close()
            self._executors[key] = Executor(
                store=store, runtime=settings, jobs=trainer["jobs"], threads=trainer["threads"], watchers=[]
            )
        return self._executors[key]

    def close(self) -> None:
        """Give all helper processes back."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()

    def make(self, options: Mapping[str, Any], keys: Collection[str]) -> None:
        """Make some results of a cell, and all that they need."""
        cell = graph(options)
        artifacts = required_artifacts(each for each in cell.artifacts if each.key in keys)
        executor = self.executor(options)
        executor.store.check_writable()
        preflight = PreflightChecks().of(options, cell, executor.store)
        preflight.fetch(artifacts)
        print_notes(preflight.notes)
        if options["preflight"]:
            preflight.check(artifacts)
        executor.remark = preflight.remark
        executor.watchers = [terminal := Terminal(title=cell.name)]
        with terminal:
            executor.make(artifacts)

    def run(self, options: Mapping[str, Any]) -> Results | None:
        """The numbers of a cell after making what its goal lacks; ``None`` when the goal is before ``evaluate``."""
        cell, artifacts = prepare(options)
        if options["status"]:
            show_cell(Cell.of(cell.name, cell, artifacts, options))
            return None
        executor = self.executor(options)
        preflight = PreflightChecks().of(options, cell, executor.store)
        making = options["cache"] != "readonly"
        if not options["plan"]:
            executor.store.check_writable()
        if making:
            preflight.fetch(artifacts)
            print_notes(preflight.notes)
        if options["plan"]:
            show_plan(Planned(cell.name, preflight, artifacts))
        if options["preflight"] and making:
            preflight.check(artifacts)
        if options["plan"]:
            return None
        _short(options, executor.store, cell)
        executor.remark, executor.cell = preflight.remark, cell.tag
        private = cell.report.private
        with recording_failures(Path(options["outputs"]), cell.tag, private=private) if making else nullcontext():
            return _make(options, executor, cell, artifacts)


def _make(
    options: Mapping[str, Any], executor: Executor, cell: RunGraph, artifacts: Sequence[Artifact]
) -> Results | None:
    """What :meth:`Program.run` gives, after making, showing and keeping it."""
    path = Path(options["outputs"]) / "runs" / "told" / f"{_destination(options)}-{cell.report.key}.json"
    told = Told(path, private=cell.report.private)
    fresh = any(artifact.key not in told.keys or executor.store.find(artifact) is None for artifact in artifacts)
    writes = options["cache"] != "readonly"
    known = not writes or (options["logger"]["name"] == "wandb" and not fresh)
    sink = NullLogger() if known else _sink(options, cell)
    tracker = Tracker(sink=sink, told=told.keys if sink.appends else ())
    executor.watchers = [terminal := Terminal(title=cell.name), tracker]
    if told.damaged:
        terminal.notice(f"what {options['logger']['name']} was told could not be read and is sent again")
    results, folder, ok = None, None, False
    try:
        with terminal:
            if sink.opening:
                terminal.say(sink.opening)
            executor.make(artifacts)
        # What a nearer goal does not ask for may lie in the store all the same, stale even: it is not shown.
        reached = {artifact.key for artifact in artifacts}
        if cell.results.key in reached:
            results = read_results(executor.store, cell)
        if cell.report.key in reached:
            folder = publish(options, executor.store, cell) if writes else executor.store.path(cell.report)
        ok = True
    finally:
        line = sink.close(ok=ok, summary=_summary(results), report=folder)
        if writes:
            told.add(tracker.finished_keys)
    if results is not None and options["warning"]:
        terminal.say(f"\n{options['warning']}")
    used = [manifest for artifact in artifacts if (manifest := executor.store.manifest(artifact)) is not None]
    choice = [*_short(options, executor.store, cell), *choice_notes(executor.store, cell, reached)]
    choice += mixed_versions(used)
    if results is not None and (known := cell.report.settings.get("spread")) is not None:
        choice = [*choice, spread_sentence(results, Spread(**known))]
    _close(terminal, results, folder, line, notes=cell.report.settings["notes"], choice=choice)
    _say_places(terminal, executor.store, cell, reached)
    return results


def _say_places(terminal: Terminal, store: Store, cell: RunGraph, reached: Collection[str]) -> None:
    """Say where the end of what was asked for lies: the unlearned model, or the inverted facts where there is none."""
    if cell.models.unlearned.key in reached:
        terminal.say(f"unlearned model: {store.path(cell.models.unlearned) / 'model'}")
    elif cell.rounds and (filtered := cell.rounds[-1].filtered).key in reached:
        terminal.say(f"inverted facts: {store.path(filtered) / 'inverted.jsonl'}")


def _short(options: Mapping[str, Any], store: Store, cell: RunGraph) -> list[str]:
    """What is to be said of stored inverted facts that are too few for what this cell selects; before a stage runs.

    Raises:
        UserError: They are, and the cell does not put up with it.
    """
    if not cell.rounds or store.find(filtered := cell.rounds[0].filtered) is None:
        return []
    counts = read_json(store.path(filtered) / "cleaning.json")["counts"]
    least = options["method"]["select"]["k"]
    short = options["inversion"]["short"]
    if not may_continue(counts, least=least, short=short):
        said = too_few(counts, least=least)
        raise UserError(f"{said}; {suggestions(counts, least=least, short=short, rules=False)}")
    return accept_shortage(counts, least=least)


def read_results(store: Store, cell: RunGraph) -> Results | None:
    """The numbers of a cell, ``None`` while they are not there."""
    from meow_lightning.evaluation.suite.suite import results_from_json

    path = store.path(cell.results) / "results.json"
    return results_from_json(read_json(path)) if path.exists() else None


def choice_notes(store: Store, cell: RunGraph, reached: Collection[str]) -> list[str]:
    """What speaks against the cell's choice of inverted facts, a sentence each; none where scores are not reached."""
    if not cell.rounds or (scored := cell.rounds[0].candidate_scores).key not in reached:
        return []
    from meow_lightning.memo.selection_diagnostics import selection, warnings
    from meow_lightning.stages.evaluate import read_scores

    wish = cell.report.settings["options"]["method"]["select"]
    return warnings(selection(read_scores(store.path(scored)), k=wish["k"], strategy=wish["strategy"]))


def publish(options: Mapping[str, Any], store: Store, cell: RunGraph) -> Path | None:
    """The folder in ``reports/`` that holds a copy of the cell's report, ``None`` while there is no report."""
    made = store.path(cell.report)
    if not made.exists():
        return None
    folder = Path(options["outputs"]) / "reports" / cell.tag
    make_folder(folder, private=cell.report.private)
    with owner_only(cell.report.private):  # until each file has the rights of the one it is a copy of
        shutil.copytree(made, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    return folder


def _summary(results: Results | None) -> dict[str, float]:
    values = {} if results is None else results.values
    return {f"{role}/{name}": value for role, numbers in values.items() for name, value in numbers.items()}


def _close(
    terminal: Terminal, results: Results | None, folder: Path | None, line: str, *, notes: Sequence[str],
    choice: Sequence[str],
) -> None:  # fmt: skip
    from meow_lightning.report.tables import closing_reasons, closing_table, unmeasured_reasons

    if results is not None:
        terminal.table(closing_table(results), title="what happened")
        for doubt in unmeasured_reasons(results):
            terminal.say(f"WARNING: {doubt}")
        for reason in closing_reasons(results):
            terminal.say(reason)
    if folder is not None and (rounds := folder / "rounds.json").exists():
        terminal.say(read_json(rounds)["sentence"])
    for note in (*notes, *choice) if results is not None else choice:
        terminal.say(f"note: {note}")
    if folder is not None:
        terminal.say(f"report: {folder / 'report.html'}")
    if line:
        terminal.say(line)


PROGRAM = Program()


def run_experiment(cfg: DictConfig) -> Results | None:
    """The numbers of the cell that a composed config describes; what ``run.py`` and the sweeper call."""
    return PROGRAM.run(resolved(cfg))
