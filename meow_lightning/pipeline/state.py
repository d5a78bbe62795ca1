"""How results and cells stand while others may be making them: done, running, waiting, interrupted, failed.

Running is what somebody holds the lock of. The lock of another machine is not everywhere to be seen: on some shared
disks every machine sees its own alone. So a lock that looks free but was last held elsewhere, or that cannot be looked
at, is judged by the last word of its stage (``progress.json``, or its start): it counts as held for
``HEARTBEAT_TIMEOUT`` seconds.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from meow_lightning.pipeline.failures import FailureRecord, last_failures
from meow_lightning.pipeline.graph import Graph
from meow_lightning.pipeline.versions import made_by_other_code
from meow_lightning.pipeline.waiting import progress
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

HEARTBEAT_TIMEOUT = 600.0  # seconds; loading a large model and its first step pass without a word
State = Literal["done", "running", "interrupted", "lacking"]
STATES = ("done", "running", "interrupted", "waiting", "failed")  # of a cell, in the order they are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactState:
    """How one result stands.

    Attributes:
        state: ``lacking`` was not begun yet; ``interrupted`` was, and nobody is at it.
        owner: Who makes it, or did when it was interrupted: ``process@host``.
        cell: The tag of the cell it was begun for; empty where that is not told.
        begun: When that was, in seconds since 1970.
        progress: How far it is, as ``StageContext.progress`` notes it; ``None`` before the first note of its process.
        silent: Seconds since its last word, where that decided between running and interrupted; else ``None``.
        other_code: Whether it is done, and by code that differs from the present one.
    """

    state: State
    owner: str = ""
    cell: str = ""
    begun: float = 0.0
    progress: Mapping[str, Any] | None = None
    silent: float | None = None
    other_code: bool = False


def artifact_state(store: Store, artifact: Artifact, *, now: float) -> ArtifactState:
    """How a result stands at the time ``now``; nothing is made, and no lock is kept."""
    partial = store.partial(artifact)
    task = _task(partial)
    # Only where something was begun is there a lock to look at: a look must not stand in the way of who begins.
    if task is not None:
        said, owner = progress(partial), store.owner(artifact)
        quiet = now - max(task["started"], said["time"] if said else 0.0)
        held = store.held(artifact)
        judged = held is None or (not held and owner.partition("@")[2] not in ("", socket.gethostname()))
        common = {"owner": owner, "cell": task.get("cell", ""), "begun": task["started"]}
        silent = quiet if judged else None
        if held or (judged and quiet < HEARTBEAT_TIMEOUT):
            mine = said is not None and said["time"] >= task["started"]  # else its predecessor's
            return ArtifactState(state="running", progress=said if mine else None, silent=silent, **common)
    manifest = store.manifest(artifact)
    if manifest is not None:
        return ArtifactState(state="done", other_code=made_by_other_code(artifact, manifest, store))
    return ArtifactState(state="lacking") if task is None else ArtifactState(
        state="interrupted", progress=said, silent=silent, **common
    )  # fmt: skip


def _task(partial: Path) -> dict[str, Any] | None:
    """What was begun in a folder, ``None`` where nothing was; while a result is sealed its start alone is known."""
    try:
        found = json.loads((partial / "task.json").read_bytes())
        return {"started": float(found["started"]), "cell": str(found.get("cell", ""))}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        try:
            return {"started": partial.stat().st_mtime}
        except OSError:
            return None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell that is asked about.

    Attributes:
        name: What people call it: its words in a sweep.
        tag: The name of its files.
        artifacts: What its goal asks for, needs first.
        store: Where its results are.
        outputs: Where its failures are told.
    """

    name: str
    tag: str
    artifacts: Sequence[Artifact]
    store: Store
    outputs: Path

    @classmethod
    def of(cls, name: str, cell: Graph, artifacts: Sequence[Artifact], options: Mapping[str, Any]) -> Cell:
        """The cell that some options describe; its store is read alone."""
        store = Store(root=Path(options["store"]), cache="readonly")
        return cls(name=name, tag=cell.tag, artifacts=artifacts, store=store, outputs=Path(options["outputs"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How a cell stands: its state, how many of its results are there, what it is at or waits for, how it failed."""

    name: str
    state: str
    made: int
    wanted: int
    what: str = ""
    story: FailureRecord | None = None


def collect_states(cells: Sequence[Cell], *, now: float) -> tuple[dict[str, ArtifactState], list[RunState]]:
    """(how every result stands, by key; how every cell stands); each result is looked at once."""
    found: dict[str, ArtifactState] = {}
    for cell in cells:
        for artifact in cell.artifacts:
            if artifact.key not in found:
                found[artifact.key] = artifact_state(cell.store, artifact, now=now)
    names = {cell.tag: cell.name for cell in reversed(cells)}
    # Where nobody told whose a stage is, it is the first cell's that wants it: cells run in their order.
    first = {artifact.key: cell.tag for cell in reversed(cells) for artifact in cell.artifacts}
    makers = {key: each.cell or first[key] for key, each in found.items()}
    stories = [last_failures(cell.outputs, (cell.tag, cell.name)) for cell in cells]
    told = zip(cells, stories, strict=True)
    return found, [run_state(cell, found, makers=makers, names=names, story=story) for cell, story in told]


def run_state(
    cell: Cell,
    found: Mapping[str, ArtifactState],
    *,
    makers: Mapping[str, str],
    names: Mapping[str, str],
    story: FailureRecord | None,
) -> RunState:
    """How a cell stands.

    Args:
        cell: The cell.
        found: How the results stand, by key.
        makers: The tag of the cell that makes each result, or was at it, by key.
        names: What people call the cells, by tag.
        story: How it last failed.
    """
    states = {artifact.key: found[artifact.key] for artifact in cell.artifacts}
    made = sum(each.state == "done" for each in states.values())

    def stands(state: str, what: str, *, why: FailureRecord | None = None) -> RunState:
        return RunState(name=cell.name, state=state, made=made, wanted=len(states), what=what, story=why)

    def those(state: State, *, own: bool) -> list[Artifact]:
        return [
            each for each in cell.artifacts if states[each.key].state == state and own == (makers[each.key] == cell.tag)
        ]

    if made == len(states):
        return stands("done", "")
    if running := those("running", own=True):
        return stands("running", ", ".join(map(title, running)))
    begun = those("interrupted", own=True)
    # A run that was killed after the failure has told nothing, but has begun something anew.
    if story is not None and all(states[each.key].begun <= story.time for each in begun):
        return stands("failed", "", why=story)
    if begun:
        return stands("interrupted", ", ".join(f"{title(each)}{progress_suffix(states[each.key])}" for each in begun))
    if others := those("running", own=False):
        maker = makers[others[0].key]
        return stands("waiting", f"for {title(others[0])}, which {names.get(maker, maker)} makes")
    following = next(each for each in cell.artifacts if states[each.key].state != "done")
    return stands("waiting", f"for {title(following)}{progress_suffix(states[following.key])}, which nobody makes now")


def title(artifact: Artifact) -> str:
    """Stage and label of a result."""
    return f"{artifact.stage} {artifact.label}".strip()


def progress_suffix(state: ArtifactState) -> str:
    """How far an interrupted result was, to be put behind its title; empty where it is none or said nothing."""
    said = state.progress
    return f" at {said['done']} of {said['total']} {said['unit']}" if state.state == "interrupted" and said else ""


def counts(cells: Sequence[RunState]) -> str:
    """How many cells stand how, in words."""
    number = Counter(cell.state for cell in cells)
    parts = [f"{number[state]} {state}" for state in STATES if number[state]]
    return f"{len(cells)} cell{'s' if len(cells) > 1 else ''}: {', '.join(parts)}"
