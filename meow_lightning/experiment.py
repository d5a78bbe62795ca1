"""Execution of one run from its options: plan, compute missing results, show and publish them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import resolved
from meow_lightning.console.console import Terminal, print_notes
from meow_lightning.console.plan import Planned, show_plan
from meow_lightning.console.status import show_run
from meow_lightning.data.probed import probed_dataset
from meow_lightning.data.prompting import describe_prompt
from meow_lightning.data.values.language import yes_no_note
from meow_lightning.errors import UserError
from meow_lightning.inversion.candidates import describe_shortage, may_continue, shortage_notes, suggestions
from meow_lightning.pipeline import tracked
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.executor import Executor
from meow_lightning.pipeline.failures import recording_failures
from meow_lightning.pipeline.graph import RunGraph, required_artifacts
from meow_lightning.pipeline.nodes.report import language_note
from meow_lightning.pipeline.state import RunArtifacts
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.planning.training_length import training_notes
from meow_lightning.report.known_facts import sentences
from meow_lightning.report.seed_spread import Spread, spread_sentence
from meow_lightning.report.sweep_links import link_sweeps
from meow_lightning.stages.base import mixed_versions
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import model_folder
from meow_lightning.stages.results.report import ReportResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import make_folder, owner_only
from meow_lightning.store.store import Store
from meow_lightning.tracking.base import NullLogger, RunEnd
from meow_lightning.tracking.tracker import SyncedKeys, Tracker
from meow_lightning.types import Fact, Results

if TYPE_CHECKING:
    from meow_lightning.report.requests import RequestLines


def describe_facts(run: RunGraph) -> list[str]:
    """List the facts that the target model knows, or say that it has not been asked; nothing for other datasets."""
    dataset = probed_dataset(run.dataset)
    if dataset is None:
        return []
    if run.probed:
        return sentences(dataset.overview())
    return [
        f"the target model has not been asked yet which of {len(dataset.questions())} questions it answers (stage "
        "probe; goal=probe asks it alone): the sizes and keys of this plan are those of a model that answers all of "
        "them, so memory, time and disk are upper bounds"
    ]


def warn_of_facts(config: RunConfig, run: RunGraph) -> list[str]:
    """Warn of own facts whose numbers, or whose inverted facts, mislead; nothing for the datasets that are shipped."""
    if run.dataset.public:
        return []
    facts = [fact for fact in run.dataset.facts("forget") if isinstance(fact, Fact)]
    inverts = any(artifact.stage == "propose" for artifact in run.artifacts)
    return [*yes_no_note(facts), *(language_note(run.dataset, config.inversion) if inverts else [])]


def _foreign_facts(config: RunConfig) -> list[str]:
    """Warn that a model of the user's own is asked to forget the shipped, made-up facts, which it cannot know."""
    given = config.model.target
    if given in (None, "released") or config.dataset.name != "fictional":
        return []
    return [
        f"WARNING: model.target={given} is to forget the made-up authors of dataset=fictional, the default, which a "
        "model knows only if it was trained on them here; for your own facts set dataset=jsonl dataset.forget=FILE"
    ]


def caveats(run: RunGraph, artifacts: Sequence[Artifact]) -> list[str]:
    """List what is to be known of the numbers of a run before they are computed: the notes of its report.

    A goal without numbers has only those on the facts, and none before something is unlearned.
    """
    reached = {artifact.key for artifact in artifacts}
    if run.results.key in reached:
        return list(run.report.settings["notes"])
    return list(run.dataset.caveats()) if run.models.unlearned.key in reached else []


def prepare(config: RunConfig) -> tuple[RunGraph, list[Artifact]]:
    """Build the graph of a run and list the artifacts of its goal, after all checks that do not depend on hardware.

    Raises:
        UserError: Invalid options.
    """
    run = graph(config)
    return run, run.goal(config.goal)


class Program:
    """State of the whole program: an executor with its helper processes, shared by the runs of a sweep."""

    def __init__(self) -> None:
        self._executors: dict[str, Executor] = {}
        self._told: set[str] = set()  # notes that the runs of a sweep share are printed once

    def executor(self, config: RunConfig) -> Executor:
        """Return the executor for these options, without watchers."""
        settings = config.runtime
        parallel_stages, threads = config.trainer.parallel_stages, config.trainer.threads
        store = Store(root=Path(config.store), cache=config.cache)
        key = json.dumps([str(store.root), store.cache, vars(settings), parallel_stages, threads])
        if key not in self._executors:
            self.close()
            self._executors[key] = Executor(
                store=store, runtime=settings, parallel_stages=parallel_stages, threads=threads, watchers=[]
            )
        return self._executors[key]

    def tell(self, notes: Sequence[str]) -> None:
        """Print the notes that this program has not printed yet, before anything is computed."""
        print_notes([note for note in dict.fromkeys(notes) if note not in self._told])
        self._told.update(notes)

    def close(self) -> None:
        """Shut down all helper processes."""
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()

    def make(self, config: RunConfig, keys: Collection[str]) -> None:
        """Compute some results of a run, and everything they need."""
        run = graph(config)
        artifacts = required_artifacts(artifact for artifact in run.artifacts if artifact.key in keys)
        executor = self.executor(config)
        executor.store.check_writable()
        preflight = PreflightChecks().of(config, run, executor.store)
        preflight.fetch(artifacts)
        print_notes(preflight.notes)
        if config.preflight:
            preflight.check(artifacts)
        executor.manifest_extras = preflight.manifest_extras
        executor.watchers = [terminal := Terminal(title=run.name)]
        with terminal:
            executor.make(artifacts)

    def run(self, config: RunConfig) -> Results | None:
        """Compute the results of a run's goal; returns its metrics, ``None`` if the goal precedes ``evaluate``."""
        run, artifacts = prepare(config)
        if config.status:
            show_run(RunArtifacts.of(run.name, run, artifacts, config.plain()))
            return None
        executor = self.executor(config)
        preflight = PreflightChecks().of(config, run, executor.store)
        computing = config.cache != "readonly"
        asks = not run.probed and any(each.stage != "finetune" for each in artifacts)
        if run.probe is not None and asks and computing and not config.plan:
            self.make(config, [run.probe.key])  # which facts are known decides on everything else
            run, artifacts = prepare(config)
            preflight = PreflightChecks().of(config, run, executor.store)
        print_notes(describe_facts(run))
        self.tell(warn_of_facts(config, run))
        if not config.plan:
            executor.store.check_writable()
        if computing:
            preflight.fetch(artifacts)
            print_notes(preflight.notes)
        self.tell(_foreign_facts(config) + caveats(run, artifacts))
        self.tell(training_notes(run, preflight, artifacts) if computing else ())
        if config.plan:
            asked = config.model.prompt
            shown = describe_prompt(template=asked.template, answer_prefix=asked.answer_prefix, system=asked.system)
            show_plan(Planned(run.name, preflight, artifacts), prompt=shown)
        if config.preflight and computing:
            preflight.check(artifacts)
        if config.plan:
            return None
        _check_shortage(config, executor.store, run)
        executor.manifest_extras, executor.run_tag = preflight.manifest_extras, run.tag
        private = run.report.private
        with recording_failures(Path(config.outputs), run.tag, private=private) if computing else nullcontext():
            return _execute(config, executor, run, artifacts)


def _execute(config: RunConfig, executor: Executor, run: RunGraph, artifacts: Sequence[Artifact]) -> Results | None:
    """Compute, show and publish the results of a run."""
    path = Path(config.outputs) / "runs" / "synced" / f"{tracked.destination(config)}-{run.report.key}.json"
    synced = SyncedKeys(path, private=run.report.private)
    fresh = any(artifact.key not in synced.keys or executor.store.find(artifact) is None for artifact in artifacts)
    writes = config.cache != "readonly"
    discards = not writes or (config.logger.name == "wandb" and not fresh)
    reached = {artifact.key for artifact in artifacts}
    sink = NullLogger() if discards else tracked.open_sink(config, run, reached)
    tracker = Tracker(sink=sink, synced=synced.keys if sink.appends else ())
    executor.watchers = [terminal := Terminal(title=run.name), tracker]
    if synced.damaged:
        terminal.notice(
            f"the record of the points logged to {config.logger.name} cannot be read; logging all of them again"
        )
    results, folder, end = None, None, RunEnd(outcome="failed")
    try:
        with terminal:
            if sink.opening:
                terminal.say(sink.opening)
            executor.make(artifacts)
        # Results beyond the goal may be in the store, even stale ones; they are not shown.
        if run.results.key in reached:
            results = read_results(executor.store, run)
        if run.report.key in reached:
            folder = publish(config, executor.store, run) if writes else executor.store.path(run.report)
        manifests = [found for artifact in artifacts if (found := executor.store.manifest(artifact)) is not None]
        end = tracked.finished(config, executor.store, run, manifests, results=results, report=folder)
    except (KeyboardInterrupt, SystemExit):
        end = RunEnd(outcome="interrupted")
        raise
    finally:
        line = sink.close(end)
        if writes:
            synced.add(tracker.finished_keys)
    if results is not None and config.disclaimer:
        terminal.paragraph(f"\n{config.disclaimer}")
    notes = [*_check_shortage(config, executor.store, run), *selection_notes(executor.store, run, reached)]
    notes += mixed_versions(manifests)
    if results is not None and (spread := run.report.settings.get("spread")) is not None:
        notes.append(spread_sentence(results, Spread(**spread)))
    requests = request_lines(executor.store, run) if results is not None else None
    _print_summary(terminal, results, folder, line, requests=requests, notes=notes)
    _print_locations(terminal, executor.store, run, reached)
    return results


def _print_locations(terminal: Terminal, store: Store, run: RunGraph, reached: Collection[str]) -> None:
    """Print the location of the unlearned model, or of the inverted facts if the goal precedes it."""
    if run.models.unlearned.key in reached:
        terminal.say(f"unlearned model: {model_folder(store.path(run.models.unlearned))}")
    elif run.rounds and (filtered := run.rounds[-1].filtered).key in reached:
        terminal.say(f"inverted facts: {FilterResult.path(store.path(filtered))}")


def _check_shortage(config: RunConfig, store: Store, run: RunGraph) -> list[str]:
    """Check cached inverted facts against the number that the run selects; returns notes on a tolerated shortage.

    Raises:
        UserError: Too few inverted facts, and ``inversion.on_shortage`` does not tolerate it.
    """
    select = config.method.select
    if select is None or not run.rounds or store.find(filtered := run.rounds[0].filtered) is None:
        return []
    counts = FilterResult.read(store.path(filtered)).summary.counts
    required, on_shortage = select.k, config.inversion.on_shortage
    if not may_continue(counts, least=required, on_shortage=on_shortage):
        description = describe_shortage(counts, least=required)
        raise UserError(f"{description}; {suggestions(counts, least=required, on_shortage=on_shortage, rules=False)}")
    return shortage_notes(counts, least=required)


def read_results(store: Store, run: RunGraph) -> Results | None:
    """Read the metrics of a run; ``None`` while they are missing."""
    from meow_lightning.stages.results.evaluate import EvaluateResult

    folder = store.path(run.results)
    return EvaluateResult.read(folder).results if folder.exists() else None


def request_lines(store: Store, run: RunGraph) -> RequestLines | None:
    """Read what the terminal shows of requests to forget; ``None`` for a run that forgets all facts at once."""
    from meow_lightning.report.requests import closing_lines
    from meow_lightning.stages.results.evaluate import EvaluateResult

    sequence = EvaluateResult.read(store.path(run.results)).sequence
    return closing_lines(sequence) if sequence else None


def selection_notes(store: Store, run: RunGraph, reached: Collection[str]) -> list[str]:
    """List warnings about the run's selection of inverted facts; none if the goal precedes their scores."""
    if not run.rounds or (scored := run.rounds[0].candidate_scores).key not in reached:
        return []
    from meow_lightning.memo.selection_diagnostics import selection, warnings
    from meow_lightning.stages.results.score import ScoreResult

    select = run.report.settings["options"]["method"]["select"]
    texts, baseline = (
        ScoreResult.read(store.path(each)).texts if each is not None else []
        for each in (scored, run.rounds[0].baseline_scores)
    )
    return warnings(selection(texts, k=select["k"], strategy=select["strategy"], baseline=baseline))


def publish(config: RunConfig, store: Store, run: RunGraph) -> Path | None:
    """Copy the report of a run to ``reports/``; returns the folder, ``None`` without a report."""
    stored = store.path(run.report)
    if not stored.exists():
        return None
    folder = Path(config.outputs) / "reports" / run.tag
    make_folder(folder, private=run.report.private)
    with owner_only(run.report.private):  # until each file has the permissions of its original
        shutil.copytree(stored, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
    link_sweeps(folder, run.results.key)
    return folder


def _print_summary(
    terminal: Terminal, results: Results | None, folder: Path | None, line: str, *,
    requests: RequestLines | None, notes: Sequence[str],
) -> None:  # fmt: skip
    from meow_lightning.report.robustness import attack_tables
    from meow_lightning.report.tables import closing_reasons, closing_table, unmeasured_reasons

    if results is not None:
        terminal.table(closing_table(results), title="Results")
        for title, rows in attack_tables(results):
            terminal.table(rows, title=title)
        if requests is not None:
            terminal.table(requests.table, title=requests.title)
            terminal.paragraph(requests.sentence)
        for warning in unmeasured_reasons(results):
            terminal.paragraph(f"WARNING: {warning}")
        for reason in closing_reasons(results):
            terminal.paragraph(reason)
    report = None if folder is None else ReportResult.read(folder)
    if report is not None and report.rounds is not None:
        terminal.paragraph(report.rounds["sentence"])
    for note in notes:
        terminal.paragraph(f"note: {note}")
    if report is not None:
        terminal.say(f"report: {report.page}")
    if line:
        terminal.say(line)


PROGRAM = Program()


def run_experiment(cfg: DictConfig) -> Results | None:
    """Execute the run of a composed config; called by ``run.py`` and the sweeper."""
    return PROGRAM.run(resolved(cfg))
