"""What a person at the terminal sees: a line per stage, bars on what runs, tables at the end."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from meow_lightning.pipeline.waiting import progress
from meow_lightning.resources.format import format_duration
from meow_lightning.stages.base import manifest_notes
from meow_lightning.store.artifact import Artifact

WIDE = 200  # columns of a table that goes to a file or a pipe
SAY_EVERY = 20.0  # seconds between two lines about one running stage where no bar can be drawn
OTHER_CODE = "*"  # behind the state of a stored result that the present code did not make
OTHER_CODE_LEGEND = f"{OTHER_CODE} made by other code; cache=refresh computes them again"
SHOWN = 1.0  # units a second, from which on the speed is shown


def time_left(state: Mapping[str, Any]) -> str | None:
    """How fast a stage is and the time it will still take, in words; ``None`` while that is not known."""
    rate = state.get("rate")  # an older version of this program did not note it
    if not rate:
        return None
    speed = f"{rate:.0f}/s, " if rate >= SHOWN else ""
    return f"{speed}{format_duration((state['total'] - state['done']) / rate)} left"


def console(*, stderr: bool = False) -> Console:
    """A console that never wraps the lines other programs may read, nor takes ``[words]`` in them for its own."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = WIDE
    return made


def print_notes(notes: Sequence[str]) -> None:
    """One line each, before anything is made."""
    for note in notes:
        console().print(f"note: {note}")


class Terminal:
    """Tells a person what an executor does; use as a context.

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
        self._said: dict[str, float] = {}  # when a stage was last heard of, at first by being seen at all
        self._spoken: set[str] = set()

    def __enter__(self) -> Terminal:
        self.console.print(self._title, style="bold")
        self._bars.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bars.stop()

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Draw or update a bar for each; without a terminal say now and then how far it is."""
        for key in [key for key in self._tasks if key not in artifacts]:
            self._bars.remove_task(self._tasks.pop(key))
        for key, (artifact, folder) in artifacts.items():
            state = progress(folder)
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
                self._say(key, name, state)

    def _say(self, key: str, name: str, state: Mapping[str, Any]) -> None:
        """A line about a running stage: as soon as its time is known, then now and then."""
        left = time_left(state)
        first = left is not None and key not in self._spoken
        if first or time.time() - self._said.setdefault(key, time.time()) > SAY_EVERY:
            self._said[key] = time.time()
            self._spoken.add(key)
            far = f"{state['done']} of {state['total']} {state['unit']}"
            self.console.print(f"  … {name}: {far}, {left or 'time left not known yet'}")

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, made: bool) -> None:
        """One line: stage, whose, key, seconds, made or found."""
        line = Text(f"{artifact.stage:<9} {artifact.label:<19} {artifact.key}  {manifest['seconds']:>7.1f} s  ")
        word = "found" if not made else "linked" if "given" in artifact.settings else "made"
        line.append(word, style="green" if made else "dim")
        self.console.print(line)
        for remark in manifest_notes(manifest) if made else ():
            self.console.print(f"  {remark}", style="dim")

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """One line: who is making it."""
        self.console.print(f"{artifact.stage:<9} {artifact.label:<19} {artifact.key}  waiting: {owner} is making it")

    def notice(self, text: str) -> None:
        """One line below the stages'."""
        self.console.print(f"  {text}", style="yellow")

    def table(self, rows: Sequence[Sequence[str]], *, title: str, words: Collection[str] = ()) -> None:
        """A small table; the first row is its head.

        Args:
            rows: Head and rows, as texts.
            title: What stands above it.
            words: Heads of columns that hold words: set left, and broken into lines where they are too wide.
        """
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for number, head in enumerate(rows[0]):
            # Where columns are too many for the width, it is not the names of the rows that are cut short.
            least = max(len(row[0]) for row in rows) if number == 0 else None
            side: Literal["left", "right"] = "left" if number == 0 or head in words else "right"
            table.add_column(head, justify=side, no_wrap=head not in words, min_width=least)
        for row in rows[1:]:
            table.add_row(*row)
        self.console.print()
        self.console.print(table, soft_wrap=False, crop=False)
        self.console.print()

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)
