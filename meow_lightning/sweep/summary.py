"""Summary of a sweep: one table of its runs, their budgets, and published numbers."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from meow_lightning.config.program import program
from meow_lightning.console.console import Terminal
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.failures import clear_failure, reason, record_failure
from meow_lightning.report.best_tries import best_tries
from meow_lightning.report.budget import budget
from meow_lightning.report.memorization_comparison import Picks, measures, several
from meow_lightning.report.paper_comparison import Published, paper_figures
from meow_lightning.report.seed_spread import FOLDER
from meow_lightning.report.sweep_formats import csv, latex
from meow_lightning.report.sweep_tables import COLUMNS, Swept, Table, tables, without_seed
from meow_lightning.report.tables import CLOSING, ability_names
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import SelectedEpoch, Selection
from meow_lightning.store.durable import write_json, write_text
from meow_lightning.store.store import Store
from meow_lightning.sweep.provenance import provenance_line, sweep_provenance
from meow_lightning.sweep.seed_spread import groups, nested, question_intervals, write_spreads


def show_sweep(
    finished: Sequence[Swept],
    failed: Sequence[tuple[str, Exception]],
    *,
    published: Sequence[Published],
    reruns: Sequence[str],
    outputs: Path | None,
    name: str | None = None,
) -> None:
    """Show the metrics of a sweep's runs in one table, then the failed runs and their errors.

    Args:
        finished: The finished runs with numbers.
        failed: The name of each failed run, and its error.
        published: Published numbers.
        reruns: The command that executes each failed run again.
        outputs: Folder of the tables (``reports/sweep-NAME``) and of the failure records (``runs/failed``); ``None``
            to write neither.
        name: Name of the sweep's file, whose tables are replaced; ``None`` for one without a file, named by the time.
    """
    with Terminal(title="") as terminal:
        if finished:
            label = name or time.strftime("%Y%m%d-%H%M%S")
            _show(terminal, finished, published, outputs and outputs / "reports" / f"sweep-{label}")
        if outputs:
            for run in finished:
                clear_failure(outputs, run.name)
        for run_name, error in failed:
            terminal.say(f"failed: {run_name}: {reason(error)}")
            if outputs:
                # An unrecorded failure happened during planning, before it was known whether the dataset is public.
                terminal.say(f"        {record_failure(outputs, run_name, error, private=True)}")
        for command in reruns:
            terminal.say(f"rerun: {command}")


def _show(terminal: Terminal, runs: Sequence[Swept], published: Sequence[Published], folder: Path | None) -> None:
    measured = [(run.name, run.results) for run in runs]
    picks = {run.name: found for run in runs if (found := selection_picks(run))} if several(runs) else {}
    memorization = measures(runs, picks)
    comparison = paper_figures(runs, published)
    epochs = {run.name: (kept.number, kept.epoch) for run in runs if (kept := selected_epoch(run))}
    tried = best_tries(runs, epochs, CLOSING)
    more = [table for table in (tried, memorization, comparison[0] if comparison else None) if table]
    lines = [budget(runs), *(comparison[1] if comparison else ())]
    for title, rows in [*tables(measured, columns=CLOSING, ends=False, nested={}, per_run={}), *more]:
        terminal.table(rows, title=title)  # the file has more columns than fit on a terminal
    for line in lines:
        terminal.say(line)
    if folder is not None:
        _write(terminal, runs, folder, more=more, lines=lines)


def _write(
    terminal: Terminal, runs: Sequence[Swept], folder: Path, *, more: Sequence[Table], lines: Sequence[str]
) -> None:
    """Write the tables as Markdown, CSV and LaTeX, how they were made, and the spread over seeds if there are several.

    Args:
        terminal: Names the files.
        runs: The finished runs.
        folder: The folder of the files; older ones are replaced.
        more: Tables that the Markdown file has besides.
        lines: Lines below the tables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured = [(run.name, run.results) for run in runs]
    benchmarks = dict.fromkeys(name for _, results in measured for name in ability_names(results))
    graphs = {run.name: graph(run.config) for run in runs}
    stores = {run.name: Store(root=Path(run.config.store), cache="readonly") for run in runs}
    by_seed = groups(runs)
    per_run = {name: question_intervals(stores[name].path(each.results)) for name, each in graphs.items()}
    over_seeds = {words: nested(group) for words, group in by_seed.items()}
    made = sweep_provenance(runs, graphs=graphs, stores=stores, command=command())
    shown = tables(measured, columns=[*COLUMNS, *benchmarks], ends=True, nested=over_seeds, per_run=per_run)
    write_text(folder / "table.md", page([*shown, *more], [*lines, provenance_line(made)]))
    write_text(folder / "table.csv", csv(measured, per_run))
    alone = {without_seed(name): ends for name, ends in per_run.items() if without_seed(name) not in by_seed}
    references = {name for name, each in graphs.items() if not each.streams}
    tex = latex(measured, [*CLOSING, *benchmarks], {**alone, **over_seeds}, references=references)
    write_text(folder / "table.tex", tex)
    write_json(folder / "provenance.json", made)
    terminal.say(f"table: {folder / 'table.md'} (also .csv and .tex, and provenance.json)")
    if by_seed:
        write_spreads(by_seed, seeds := folder / "seeds.yaml", command=made["command"])
        terminal.say(f"spread over seeds: {seeds} (reports show it if copied to {FOLDER})")


def command() -> str:
    """Format the command line for a shell, without paths of this machine."""
    return f"{program()} {shlex.join(sys.argv[1:])}"


def page(shown: Sequence[Table], lines: Sequence[str]) -> str:
    """Format tables and the lines below them as Markdown."""
    parts = []
    for title, (head, *rows) in shown:
        bars = "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
        parts.append(f"{title}\n\n{bars}")
    return "\n".join([*parts, *(f"{line}\n" for line in lines)])


def selection_picks(run: Swept) -> Picks | None:
    """Read from the store which inverted facts a run selected; ``None`` if it selects none, or anew in every round."""
    method = run.config.method
    if method.select is None or method.rounds is not None:
        return None
    artifacts = graph(run.config)
    store = Store(root=Path(run.config.store), cache="readonly")
    available: dict[str, int] = {}
    for each in FilterResult.read(store.path(artifacts.rounds[-1].filtered)).inverted:
        available[each.fact] = available.get(each.fact, 0) + 1
    return Picks(taken=Selection.read(store.path(artifacts.models.unlearned)).positions, available=available)


def selected_epoch(run: Swept) -> SelectedEpoch | None:
    """Read from the store which epoch a run kept; ``None`` if it took the last one or trained nothing."""
    if run.config.optim.checkpoint != "best":
        return None
    artifacts = graph(run.config)
    if not artifacts.streams:
        return None
    folder = Store(root=Path(run.config.store), cache="readonly").path(artifacts.models.unlearned)
    with suppress(FileNotFoundError):  # stored by an earlier version of the code
        return SelectedEpoch.read(folder)
    return None
