"""Summary of a sweep: one table of its runs, their budgets, and published numbers."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.config.program import program
from meow_lightning.console.console import Terminal
from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.failures import reason, record_failure
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.report.best_tries import best_tries
from meow_lightning.report.budget import budget
from meow_lightning.report.memorization_comparison import Picks, measures, several
from meow_lightning.report.metric_trust import FILE as TRUST_FILE
from meow_lightning.report.metric_trust import measured_on, trust_table, trusts, write_trusts
from meow_lightning.report.paper_comparison import Published, paper_figures
from meow_lightning.report.seed_spread import FOLDER
from meow_lightning.report.svg import Picture
from meow_lightning.report.sweep_formats import csv, latex
from meow_lightning.report.sweep_links import PROVENANCE, SWEEP, SWEEP_PAGE, link_sweeps
from meow_lightning.report.sweep_page import SweepContent, sweep_page, sweep_pictures
from meow_lightning.report.sweep_tables import COLUMNS, Swept, Table, Unfinished, missing_reasons, tables, without_seed
from meow_lightning.report.tables import CLOSING, benchmark_names
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import SelectedEpoch, Selection
from meow_lightning.store.durable import write_json, write_text
from meow_lightning.store.folders import make_folder
from meow_lightning.store.store import Store
from meow_lightning.sweep.provenance import provenance_line, sweep_provenance, unlearning_cost
from meow_lightning.sweep.seed_spread import groups, interval_over_seeds, question_intervals, write_spreads
from meow_lightning.tracking.disclosure import PAGE

UNQUOTED = "its error, which may quote private texts, is in the folder runs/failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run of a sweep without numbers.

    Attributes:
        name: Its swept options.
        tag: The name of its report's folder and of its failure record.
        error: What ended it.
        rerun: The command that executes it again.
        public: Whether the error contains no private text, so that tables may quote it.
    """

    name: str
    tag: str
    error: Exception
    rerun: str
    public: bool


def show_sweep(
    finished: Sequence[Swept],
    failed: Sequence[FailedRun],
    *,
    published: Sequence[Published],
    outputs: Path | None,
    name: str | None = None,
) -> None:
    """Show the metrics of a sweep's runs in one table, then the failed runs and their errors.

    A failed run is a row of dashes in the tables.

    Args:
        finished: The finished runs with numbers.
        failed: The others.
        published: Published numbers.
        outputs: Folder of the tables (``reports/sweep-NAME``) and of the failure records (``runs/failed``); ``None``
            to write neither.
        name: Name of the sweep's file, whose tables are replaced; ``None`` for one without a file, named by the time.
    """
    unfinished = {run.name: reason(run.error) if run.public else UNQUOTED for run in failed}
    with Terminal(title="") as terminal:
        if finished:
            label = name or time.strftime("%Y%m%d-%H%M%S")
            folder = outputs and outputs / "reports" / f"{SWEEP}{label}"
            _show(terminal, finished, published, folder, unfinished=unfinished)
        for run in failed:
            terminal.say(f"failed: {run.name}: {reason(run.error)}")
            if outputs:
                terminal.say(f"        {record_failure(outputs, run.tag, run.error, private=not run.public)}")
        for run in failed:
            terminal.say(f"rerun: {run.rerun}")


def _show(
    terminal: Terminal, runs: Sequence[Swept], published: Sequence[Published], folder: Path | None, *,
    unfinished: Unfinished,
) -> None:  # fmt: skip
    measured, graphs = [(run.name, run.results) for run in runs], {run.name: graph(run.config) for run in runs}
    picks = {}
    if several(runs):
        picks = {run.name: found for run in runs if (found := selection_picks(run, graphs[run.name]))}
    memorization = measures(runs, picks)
    comparison = paper_figures(runs, published)
    epochs = {
        run.name: (kept.number, Epoch(**kept.metrics))
        for run in runs
        if (kept := selected_epoch(run, graphs[run.name]))
    }
    tried = best_tries(runs, epochs, CLOSING)
    more = [table for table in (tried, memorization, comparison[0] if comparison else None) if table]
    disclaimers = list(dict.fromkeys(run.config.disclaimer for run in runs if run.config.disclaimer))
    lines = [budget(runs), *(comparison[1] if comparison else ())]
    shown = tables(measured, columns=CLOSING, ends=False, nested={}, per_run={}, unfinished=unfinished)
    for title, rows in [*shown, *more]:
        terminal.table(rows, title=title)  # the file has more columns than fit on a terminal
    for line in [*disclaimers, *lines]:
        terminal.paragraph(line)
    if folder is not None:
        _write(terminal, runs, graphs, folder, more=more, lines=lines, unfinished=unfinished, disclaimers=disclaimers)


def _write(
    terminal: Terminal, runs: Sequence[Swept], graphs: Mapping[str, RunGraph], folder: Path, *, more: Sequence[Table],
    lines: Sequence[str], unfinished: Unfinished, disclaimers: Sequence[str],
) -> None:  # fmt: skip
    """Write tables as Markdown, CSV and LaTeX, a page, figures, provenance, and the spread over several seeds.

    Args:
        terminal: Names the files.
        runs: The finished runs.
        graphs: Their artifacts, by the name of the run.
        folder: The folder of the files; older ones are replaced.
        more: Tables that the Markdown file has besides.
        lines: Lines below the tables.
        unfinished: The runs without numbers.
        disclaimers: What is shown above all numbers.
    """
    reports = folder.parent
    measured = [(run.name, run.results) for run in runs]
    benchmarks = benchmark_names(run.results for run in runs)
    # The command line may hold words about a private dataset.
    make_folder(folder, private=any(each.report.private for each in graphs.values()))
    stores = {run.name: Store(root=Path(run.config.store), cache="readonly") for run in runs}
    by_seed = groups(runs)
    per_run = {name: question_intervals(stores[name].path(each.results)) for name, each in graphs.items()}
    over_seeds = {words: _interval(group, graphs, stores) for words, group in by_seed.items()}
    made = sweep_provenance(runs, graphs=graphs, stores=stores, command=command())
    references = {name for name, each in graphs.items() if not each.streams}
    trusted = _trusted(runs, graphs, folder / TRUST_FILE.name, command=made["command"])
    columns = [*COLUMNS, *benchmarks]
    shown = tables(measured, columns=columns, ends=True, nested=over_seeds, per_run=per_run, unfinished=unfinished)
    gaps = [f"missing: {run}: {why}" for run, why in unfinished.items()] + missing_reasons(measured, columns)
    alone = {without_seed(name): ends for name, ends in per_run.items() if without_seed(name) not in by_seed}
    content = SweepContent(
        name=folder.name.removeprefix(SWEEP), runs=measured, columns=[*CLOSING, *benchmarks],
        intervals={**alone, **over_seeds}, references=references,
        pages={name: f"../{each.tag}/{PAGE}" for name, each in graphs.items() if (reports / each.tag / PAGE).is_file()},
        costs={name: cost for name, each in graphs.items() if (cost := unlearning_cost(stores[name], each))},
        tables=[*shown, *more, *trusted], lines=[*gaps, *lines, provenance_line(made)], command=made["command"],
        unfinished=unfinished, disclaimers=disclaimers,
    )  # fmt: skip
    pictures = sweep_pictures(content)
    write_text(folder / "table.md", page(content.tables, content.lines, disclaimers))
    write_text(folder / "table.csv", csv(measured, per_run, unfinished=unfinished))
    tex = latex(measured, content.columns, content.intervals, references=references, unfinished=unfinished)
    write_text(folder / "table.tex", tex)
    write_text(folder / SWEEP_PAGE, sweep_page(content, pictures))
    _write_figures(folder / "figures", pictures)
    write_json(folder / PROVENANCE, made)
    for each in graphs.values():
        link_sweeps(reports / each.tag, each.results.key)
    terminal.say(f"table: {folder / 'table.md'}")
    terminal.say(f"page: {folder / SWEEP_PAGE}")
    terminal.say("beside them table.csv, table.tex, figures and provenance.json")
    if by_seed:
        digests = {words: graphs[group[0].name].report.settings["digest"] for words, group in by_seed.items()}
        seeds = folder / "seeds.yaml"
        write_spreads(by_seed, seeds, digests=digests, intervals=over_seeds, command=made["command"])
        terminal.say(f"spread over seeds: {seeds} (reports show it if copied to {FOLDER})")


def _interval(
    group: Sequence[Swept], graphs: Mapping[str, RunGraph], stores: Mapping[str, Store]
) -> dict[str, tuple[float, float]]:
    """Compute the intervals of the means over runs that differ only in the seed, by number."""
    folders = [stores[run.name].path(graphs[run.name].results) for run in group]
    return interval_over_seeds(folders, confidence_level=group[0].config.evaluation.confidence_level)


def _trusted(runs: Sequence[Swept], graphs: Mapping[str, RunGraph], path: Path, *, command: str) -> list[Table]:
    """Build the table of how far metrics can be trusted and write it to a file; nothing for too few models."""
    unlearned = {name for name, each in graphs.items() if each.streams}
    pools = {
        name: (each.models.target.key, each.models.retain.key if each.models.retain else None)
        for name, each in graphs.items()
    }
    found = trusts(runs, pools, unlearned)
    if not found:
        return []
    measured = measured_on(pools, unlearned=len(unlearned))
    write_trusts(found, path, measured=measured, command=command)
    return [trust_table(found, measured)]


def _write_figures(folder: Path, pictures: Sequence[Picture]) -> None:
    """Write the figures that could be drawn, and remove older ones."""
    folder.mkdir(exist_ok=True)
    drawn = {f"{picture.name}.svg": picture.svg for picture in pictures if picture.svg is not None}
    for name, svg in drawn.items():
        write_text(folder / name, svg)
    for path in folder.iterdir():
        if path.name not in drawn:
            path.unlink()


def command() -> str:
    """Format the command line for a shell, without paths of this machine."""
    return f"{program()} {shlex.join(sys.argv[1:])}"


def page(shown: Sequence[Table], lines: Sequence[str], disclaimers: Sequence[str]) -> str:
    """Format tables, the lines below them and what is shown above all numbers as Markdown."""
    parts = [f"**{each}**\n" for each in disclaimers]
    for title, (head, *rows) in shown:
        bars = "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
        parts.append(f"{title}\n\n{bars}")
    return "\n".join([*parts, *(f"{line}\n" for line in lines)])


def selection_picks(run: Swept, made: RunGraph) -> Picks | None:
    """Read from the store which inverted facts a run selected; ``None`` if it selects none, or anew in every round."""
    method = run.config.method
    if method.select is None or method.rounds is not None:
        return None
    store = Store(root=Path(run.config.store), cache="readonly")
    available: dict[str, int] = {}
    for each in FilterResult.read(store.path(made.rounds[-1].filtered)).inverted:
        available[each.fact] = available.get(each.fact, 0) + 1
    return Picks(taken=Selection.read(store.path(made.models.unlearned)).positions, available=available)


def selected_epoch(run: Swept, made: RunGraph) -> SelectedEpoch | None:
    """Read from the store which epoch a run kept; ``None`` if it took the last one or trained nothing."""
    if run.config.optim.checkpoint != "best" or not made.streams:
        return None
    folder = Store(root=Path(run.config.store), cache="readonly").path(made.models.unlearned)
    with suppress(FileNotFoundError):  # stored by an earlier version of the code
        return SelectedEpoch.read(folder)
    return None
