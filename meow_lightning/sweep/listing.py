"""Ready-made sweeps: their claims, their runs, and which runs are in a store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from meow_lightning.config.composition import compose_options
from meow_lightning.config.files import EXPERIMENTS
from meow_lightning.config.hydra_errors import choices, compose_words, summarize_error
from meow_lightning.config.program import program
from meow_lightning.config.quoting import shell_word
from meow_lightning.errors import UserError
from meow_lightning.experiment import prepare
from meow_lightning.pipeline.failures import reason
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.jsonl import read_json
from meow_lightning.store.store import Store
from meow_lightning.sweep.sweeper import combinations

FOLDER = EXPERIMENTS / "sweep"
Options = Mapping[str, Any]  # nested options of a stored report


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """A ready-made sweep and how much of it is done.

    Attributes:
        name: Its name.
        claim: What it compares.
        runs: Number of its runs.
        done: Number of runs whose results are all in the store.
        command: The command that computes the missing runs and writes the tables.
        note: Why some runs cannot be planned here, and therefore count as missing; empty if all can.
    """

    name: str
    claim: str
    runs: int
    done: int
    command: str
    note: str

    @property
    def missing(self) -> int:
        """Number of runs that are not done."""
        return self.runs - self.done


def sweep_states(names: Sequence[str], words: Sequence[str]) -> list[SweepState]:
    """Collect the states of ready-made sweeps; computes nothing.

    Args:
        names: Names of the sweeps; all if empty.
        words: Further options of every run, such as ``outputs=FOLDER`` or ``seed=0,1``.

    Raises:
        UserError: The options are invalid.
    """
    from hydra.errors import HydraException

    chosen = names or choices("sweep")
    folders = [word for word in words if word.startswith(("outputs=", "store="))]
    store = Path(compose_options(folders).store)
    stored = [read_json(path)["settings"]["options"] for path in sorted(store.glob(f"report/*/{MANIFEST}"))]
    try:
        runs = {name: _runs(name, words) for name in chosen}
        for name in chosen if len(folders) < len(words) else ():
            compose_words([f"sweep={name}", *runs[name][0]])
    except HydraException as error:
        raise UserError(summarize_error(error, words)) from error
    return [_state(name, runs[name], words, stored) for name in chosen]


def claim(text: str) -> str:
    """Extract the claim of a sweep file: the comment lines at its start, as one line."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    return " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))


def _runs(name: str, words: Sequence[str]) -> list[list[str]]:
    """List the words of every run of a sweep; given ones replace those of its file."""
    params = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["hydra"]["sweeper"]["params"]
    given = {word.partition("=")[0] for word in words}
    return combinations([*(f"{key}={value}" for key, value in params.items() if key not in given), *words], None)


def _state(name: str, runs: Sequence[Sequence[str]], words: Sequence[str], stored: Sequence[Options]) -> SweepState:
    done, notes = 0, []
    for run in runs:
        if may_be_stored(run, stored):
            try:
                done += _is_done([f"sweep={name}", *run])
            except UserError as error:
                notes.append(reason(error))
    command = shlex.join([f"sweep={name}", *map(shell_word, words)])
    note = f"{len(notes)} runs cannot be planned here: {notes[0]}" if notes else ""
    return SweepState(
        name=name,
        claim=claim((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")),
        runs=len(runs),
        done=done,
        command=f"{program()} {command}",
        note=note,
    )


def may_be_stored(run: Sequence[str], stored: Sequence[Options]) -> bool:
    """Whether a store may contain a run, judged by its words alone, since planning a run takes a part of a second.

    Args:
        run: The words of the run.
        stored: The options of every report in the store.
    """
    values = dict(word.partition("=")[::2] for word in run)
    return any(all(_agrees(options, name, value) for name, value in values.items()) for options in stored)


def _agrees(options: Options, name: str, value: str) -> bool:
    """Whether options have a value, or do not show it."""
    node: Any = options
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    if isinstance(node, Mapping):
        node = node.get("name")
    if node is None or str(node).lower() == value.lower():
        return True
    try:
        return float(node) == float(value)
    except (TypeError, ValueError):
        return False


def _is_done(words: Sequence[str]) -> bool:
    options = compose_options(words)
    store = Store(root=Path(options.store), cache="readonly")
    return all((store.path(artifact) / MANIFEST).is_file() for artifact in prepare(options)[1])
