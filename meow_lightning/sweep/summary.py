"""Summary of a sweep: one table of its runs, their budgets, and published numbers."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from meow_lightning.config.program import program
from meow_lightning.console.console import Terminal
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.failures import clear_failure, reason, record_failure
from meow_lightning.report.budget import budget
from meow_lightning.report.memorization_comparison import Picks, measures, several
from meow_lightning.report.paper_comparison import Published, paper_figures
from meow_lightning.report.seed_spread import FOLDER
from meow_lightning.report.sweep_tables import COLUMNS, Swept, Table, tables
from meow_lightning.report.tables import CLOSING, ability_names
from meow_lightning.stages.results.filter import FilterResult
from meow_lightning.stages.results.model import Selection
from meow_lightning.store.store import Store
from meow_lightning.sweep.seed_spread import groups, nested, write_spreads


def show_sweep(
    finished: Sequence[Swept],
    failed: Sequence[tuple[str, Exception]],
    *,
    published: Sequence[Published],
    reruns: Sequence[str],
    outputs: Path | None,
) -> None:
    """Show the metrics of a sweep's runs in one table, then the failed runs and their errors.

    Args:
        finished: The finished runs with numbers.
        failed: The name of each failed run, and its error.
        published: Published numbers.
        reruns: The command that executes each failed run again.
        outputs: Folder of the table (``reports``) and of the failure records (``runs/failed``); ``None`` to write
            neither.
    """
    with Terminal(title="") as terminal:
        if finished:
            _show(terminal, finished, published, outputs and outputs / "reports")
        if outputs:
            for run in finished:
                clear_failure(outputs, run.name)
        for name, error in failed:
            terminal.say(f"failed: {name}: {reason(error)}")
            if outputs:
                # An unrecorded failure happened during planning, before it was known whether the dataset is public.
                terminal.say(f"        {record_failure(outputs, name, error, private=True)}")
        for command in reruns:
            terminal.say(f"rerun: {command}")


def _show(terminal: Terminal, runs: Sequence[Swept], published: Sequence[Published], folder: Path | None) -> None:
    measured = [(run.name, run.results) for run in runs]
    picks = {run.name: found for run in runs if (found := selection_picks(run))} if several(runs) else {}
    memorization = measures(runs, picks)
    comparison = paper_figures(runs, published)
    more = [table for table in (memorization, comparison[0] if comparison else None) if table]
    lines = [budget(runs), *(comparison[1] if comparison else ())]
    by_seed = groups(runs)
    intervals = {words: nested(group) for words, group in by_seed.items()}
    for title, rows in [*tables(measured, columns=CLOSING, ends=False, nested={}), *more]:
        terminal.table(rows, title=title)  # the file has more columns than fit on a terminal
    for line in lines:
        terminal.say(line)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sweep-{time.strftime('%Y%m%d-%H%M%S')}.md"
    benchmarks = dict.fromkeys(name for _, results in measured for name in ability_names(results))
    path.write_text(
        page([*tables(measured, columns=[*COLUMNS, *benchmarks], ends=True, nested=intervals), *more], lines),
        encoding="utf-8",
    )
    terminal.say(f"table: {path}")
    if by_seed:
        write_spreads(
            by_seed, seeds := path.with_name(f"seeds-{path.stem.removeprefix('sweep-')}.yaml"), command=command()
        )
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
