"""The end of a sweep: its cells in one table, what they were granted, and what is known of them elsewhere."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from meow_lightning.config.program import program
from meow_lightning.console.console import Terminal
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.failures import clear, reason, tell
from meow_lightning.report.budget import budget
from meow_lightning.report.memorization_comparison import Picks, measures, several
from meow_lightning.report.paper_comparison import Published, beside
from meow_lightning.report.seed_spread import FOLDER
from meow_lightning.report.sweep_tables import COLUMNS, Swept, Table, tables
from meow_lightning.report.tables import CLOSING
from meow_lightning.store.jsonl import read_lines
from meow_lightning.store.store import Store
from meow_lightning.sweep.seed_spread import groups, nested, write_spreads


def show_sweep(
    finished: Sequence[Swept],
    failed: Sequence[tuple[str, Exception]],
    *,
    published: Sequence[Published],
    again: Sequence[str],
    outputs: Path | None,
) -> None:
    """Show the numbers of a sweep's cells in one table, then those that failed and why.

    Args:
        finished: The finished cells that have numbers.
        failed: The words of each failed cell, and its error.
        published: What others have published.
        again: The command that runs each failed cell once more.
        outputs: Where the table goes (``reports``) and the whole story of each failure (``runs/failed``); ``None`` to
            write neither.
    """
    with Terminal(title="") as terminal:
        if finished:
            _show(terminal, finished, published, outputs and outputs / "reports")
        if outputs:
            for cell in finished:
                clear(outputs, cell.name)
        for words, error in failed:
            terminal.say(f"failed: {words}: {reason(error)}")
            if outputs:
                # What was not told yet failed in planning, where nothing says whether its dataset is public.
                terminal.say(f"        {tell(outputs, words, error, private=True)}")
        for command in again:
            terminal.say(f"once more: {command}")


def _show(terminal: Terminal, cells: Sequence[Swept], published: Sequence[Published], folder: Path | None) -> None:
    measured = [(cell.name, cell.results) for cell in cells]
    told = measures(cells, {cell.name: found for cell in cells if (found := picks(cell))} if several(cells) else {})
    known = beside(cells, published)
    more = [table for table in (told, known[0] if known else None) if table]
    lines = [budget(cells), *(known[1] if known else ())]
    over = groups(cells)
    intervals = {words: nested(each) for words, each in over.items()}
    for title, rows in [*tables(measured, columns=CLOSING, ends=False, nested={}), *more]:
        terminal.table(rows, title=title)  # the file has more numbers than a terminal is wide
    for line in lines:
        terminal.say(line)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sweep-{time.strftime('%Y%m%d-%H%M%S')}.md"
    path.write_text(
        page([*tables(measured, columns=COLUMNS, ends=True, nested=intervals), *more], lines), encoding="utf-8"
    )
    terminal.say(f"table: {path}")
    if over:
        write_spreads(
            over, seeds := path.with_name(f"seeds-{path.stem.removeprefix('sweep-')}.yaml"), command=command()
        )
        terminal.say(f"spread over seeds: {seeds} (in {FOLDER} reports show it)")


def command() -> str:
    """What was typed, as a shell would take it; the words of a sweep, no path of this machine."""
    return f"{program()} {shlex.join(sys.argv[1:])}"


def page(shown: Sequence[Table], lines: Sequence[str]) -> str:
    """Tables and the lines below them in Markdown."""
    parts = []
    for title, (head, *rows) in shown:
        bars = "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))
        parts.append(f"{title}\n\n{bars}")
    return "\n".join([*parts, *(f"{line}\n" for line in lines)])


def picks(cell: Swept) -> Picks | None:
    """Which inverted facts a cell trained on, from the store; ``None`` where it picks none, or anew in every round."""
    method = cell.settings["method"]
    if "select" not in method or "loop" in method:
        return None
    made = graph(cell.settings).artifacts
    store = Store(root=Path(cell.settings["store"]), cache="readonly")
    there: dict[str, int] = {}
    for row in read_lines(store.path(made["inverted"]) / "inverted.jsonl"):
        there[row["fact"]] = there.get(row["fact"], 0) + 1
    selected = read_lines(store.path(made["unlearned"]) / "selected.jsonl")
    return Picks(taken={row["fact"]: row["positions"] for row in selected}, there=there)
