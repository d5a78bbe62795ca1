"""Terminal output: a line per stage, progress bars of running stages, tables at the end."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from meow_lightning.console.table_blocks import blocks
from meow_lightning.errors import shorten_list
from meow_lightning.pipeline.waiting import read_progress
from meow_lightning.resources.format import format_duration
from meow_lightning.stages.base import manifest_notes
from meow_lightning.store.artifact import Artifact

WIDE = 200  # columns of a table written to a file or a pipe
PRINT_EVERY = 20.0  # seconds between two lines about a running stage if no bar can be drawn
OTHER_CODE = "*"  # marks the state of a stored result that a different code version computed
OTHER_CODE_LEGEND = f"{OTHER_CODE} computed by other code; cache=refresh recomputes it"
MAX_SHOWN = 3  # runs named in a message
MIN_RATE = 1.0  # units per second from which the speed is shown


def time_left(state: Mapping[str, Any]) -> str | None:
    """Format the speed of a stage and its remaining time; ``None`` while these are unknown."""
    rate = state.get("rate")  # an older version of this program did not record it
    if not rate:
        return None
    speed = f"{rate:.0f}/s, " if rate >= MIN_RATE else ""
    return f"{speed}{format_duration((state['total'] - state['done']) / rate)} left"


def console(*, stderr: bool = False) -> Console:
    """Create a console that neither wraps lines for other programs nor interprets ``[words]`` as markup."""
    created = Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not created.is_terminal:
        created.width = WIDE
    return created


def failure_lines(label: str, failures: Sequence[tuple[str, str]]) -> list[str]:
    """Format failed runs, one line per reason, with the count and the first names of the runs that it stopped.

    Args:
        label: First word of each line, such as ``failed``.
        failures: (name, reason) of each run.
    """
    by_reason: dict[str, list[str]] = {}
    for name, why in failures:
        by_reason.setdefault(why, []).append(name)
    return [
        f"{label}: {f'{len(names)} runs ({shorten_runs(names)})' if len(names) > 1 else names[0]}: {why}"
        for why, names in by_reason.items()
    ]


def shorten_runs(names: Sequence[str]) -> str:
    """Join the names of the first runs of a sweep, and count the further ones."""
    return shorten_list(names, most=MAX_SHOWN, separator="; ")


def print_notes(notes: Sequence[str]) -> None:
    """Print one line each, before anything is computed."""
    for note in notes:
        console().print(f"note: {note}")


class Terminal:
    """Displays the progress of an executor; use as a context manager.

    Args:
        title: First line.
    """

    def __init__(self, *, title: str) -> None:
        self.console = console()
        self._title = title
        self._bars = Progress(
            TextColumn("  {task.description:<28}"), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"), TextColumn("{task.fields[left]}"), console=self.console, transient=True,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._last_printed: dict[str, float] = {}  # by stage; initially the time when it was first seen
        self._announced: set[str] = set()  # stages with a printed remaining time

    def __enter__(self) -> Terminal:
        self.console.print(self._title, style="bold")
        self._bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bars.stop()

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Draw or update a bar for each running result; without a terminal, print its progress occasionally."""
        for key in [key for key in self._tasks if key not in artifacts]:
            self._bars.remove_task(self._tasks.pop(key))
        for key, (artifact, folder) in artifacts.items():
            state = read_progress(folder)
            name = f"{artifact.stage} {artifact.label}".strip()
            if self.console.is_terminal:
                if key not in self._tasks:
                    self._tasks[key] = self._bars.add_task(name, total=None, unit="", left="…")
                if state is not None:
                    self._bars.update(
                        self._tasks[key], completed=state["done"], total=state["total"], unit=state["unit"],
                        left=time_left(state) or "…",
                    )  # fmt: skip
            elif state is not None:
                self._print_progress(key, name, state)

    def _print_progress(self, key: str, name: str, state: Mapping[str, Any]) -> None:
        """Print the progress of a running stage once its remaining time is known, then periodically."""
        left = time_left(state)
        first = left is not None and key not in self._announced
        if first or time.time() - self._last_printed.setdefault(key, time.time()) > PRINT_EVERY:
            self._last_printed[key] = time.time()
            self._announced.add(key)
            done = f"{state['done']} of {state['total']} {state['unit']}"
            self.console.print(f"  … {name}: {done}, {left or 'time left unknown'}")

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, computed: bool) -> None:
        """Print stage, role, key, seconds, and whether the result was computed, cached or linked."""
        line = Text(f"{artifact.stage:<9} {artifact.label:<19} {artifact.key}  {manifest['seconds']:>7.1f} s  ")
        word = "cached" if not computed else "linked" if "given" in artifact.settings else "computed"
        line.append(word, style="green" if computed else "dim")
        self.console.print(line)
        for note in manifest_notes(manifest) if computed else ():
            self.console.print(f"  {note}", style="dim")

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Print which process computes the result."""
        self.console.print(f"{artifact.stage:<9} {artifact.label:<19} {artifact.key}  waiting for {owner}")

    def notice(self, text: str) -> None:
        """Print one line below the stage lines."""
        self.console.print(f"  {text}", style="yellow")

    def table(self, rows: Sequence[Sequence[str]], *, title: str, words: Collection[str] = ()) -> None:
        """Print a small table; the first row is its header.

        A table of numbers that is wider than the terminal is printed in several blocks of columns.

        Args:
            rows: Header and rows, as texts.
            title: Its title.
            words: Headers of text columns, which are left-aligned and wrapped if too wide.
        """
        self.console.print()
        if words:
            self._print_table(rows, title=title, words=words, widths=None)
        else:
            for number, block in enumerate(blocks(rows, self.console.width)):
                if number:
                    self.console.print()
                self._print_table(block.rows, title="" if number else title, words=(), widths=block.widths)
        self.console.print()

    def _print_table(
        self, rows: Sequence[Sequence[str]], *, title: str, words: Collection[str], widths: Sequence[int] | None
    ) -> None:
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for number, head in enumerate(rows[0]):
            # If the table is too wide, row names are still not truncated.
            min_width = max(len(row[0]) for row in rows) if number == 0 and widths is None else None
            side: Literal["left", "right"] = "left" if number == 0 or head in words else "right"
            wraps = widths is not None or head in words
            width = None if widths is None else widths[number]
            table.add_column(
                head, justify=side, no_wrap=not wraps, min_width=min_width, width=width, overflow="fold",
                vertical="bottom",
            )  # fmt: skip
        for row in rows[1:]:
            table.add_row(*row)
        self.console.print(table, soft_wrap=False, crop=False)

    def paragraph(self, text: str) -> None:
        """Print prose, which wraps at words on a terminal; use :meth:`say` for what is copied, such as commands."""
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def say(self, text: str) -> None:
        """Print one line."""
        self.console.print(text)
