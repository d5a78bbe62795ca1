"""The states of results and runs, also of other processes: done, running, waiting, not started, interrupted, failed.

A result is running while a process holds its lock. Locks of other machines are not visible everywhere: on some shared
disks a machine sees only its own. A lock that looks free but was last held elsewhere, or that cannot be inspected, is
therefore judged by the last heartbeat of its stage (``progress.json``, or its start): it counts as held for
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

from meow_lightning.pipeline.failures import FailureRecord, last_failure
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.versions import made_by_other_code
from meow_lightning.pipeline.waiting import read_progress
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

HEARTBEAT_TIMEOUT = 600.0  # seconds; loading a large model and its first step report no progress
State = Literal["done", "running", "interrupted", "missing"]
STATES = (
    "done",
    "running",
    "interrupted",
    "waiting",
    "not started",
    "failed",
)  # states of a run, in the order of the summary line


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactState:
    """The state of one result.

    Attributes:
        state: ``missing`` means not started; ``interrupted`` means started, but no process works on it now.
        owner: The process that computes it, or did until it was interrupted, as ``process@host``.
        run: Tag of the run it was started for; empty if unknown.
        started: Start time in seconds since 1970.
        progress: As recorded by ``StageContext.progress``; ``None`` before the first record of its process.
        seconds_since_heartbeat: Set if it decided between running and interrupted, else ``None``.
        other_code: Whether it is done but was computed by code that differs from the current code.
    """

    state: State
    owner: str = ""
    run: str = ""
    started: float = 0.0
    progress: Mapping[str, Any] | None = None
    seconds_since_heartbeat: float | None = None
    other_code: bool = False


def artifact_state(store: Store, artifact: Artifact, *, now: float) -> ArtifactState:
    """Determine the state of a result at time ``now``, without computing anything or keeping a lock."""
    partial = store.partial(artifact)
    task = _task(partial)
    # Inspect the lock only of a started result, so as not to block a process that is about to start it.
    if task is not None:
        progress, owner = read_progress(partial), store.owner(artifact)
        elapsed = now - max(task["started"], progress["time"] if progress else 0.0)
        held = store.held(artifact)
        inferred = held is None or (not held and owner.partition("@")[2] not in ("", socket.gethostname()))
        common: dict[str, Any] = {"owner": owner, "run": task.get("run", ""), "started": task["started"]}
        common["seconds_since_heartbeat"] = elapsed if inferred else None
        if held or (inferred and elapsed < HEARTBEAT_TIMEOUT):
            own = progress is not None and progress["time"] >= task["started"]  # else by an earlier process
            return ArtifactState(state="running", progress=progress if own else None, **common)
    manifest = store.manifest(artifact)
    if manifest is not None:
        return ArtifactState(state="done", other_code=made_by_other_code(artifact, manifest, store))
    if task is None:
        return ArtifactState(state="missing")
    return ArtifactState(state="interrupted", progress=progress, **common)


def _task(partial: Path) -> dict[str, Any] | None:
    """Read the task that was started in a folder; only its start while a result is sealed, ``None`` if none was."""
    try:
        task = json.loads((partial / "task.json").read_bytes())
        return {"started": float(task["started"]), "run": str(task.get("run", ""))}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        try:
            return {"started": partial.stat().st_mtime}
        except OSError:
            return None


@dataclass(frozen=True, kw_only=True)
class RunArtifacts:
    """A run to show the state of.

    Attributes:
        name: Its name; in a sweep the options that distinguish it.
        tag: The stem of its file names.
        artifacts: The artifacts of its goal, each after its needs.
        store: The store of its results.
        outputs: The folder that holds its failure records.
    """

    name: str
    tag: str
    artifacts: Sequence[Artifact]
    store: Store
    outputs: Path

    @classmethod
    def of(cls, name: str, run: RunGraph, artifacts: Sequence[Artifact], options: Mapping[str, Any]) -> RunArtifacts:
        """Build the record from resolved options, with a store that is only read."""
        store = Store(root=Path(options["store"]), cache="readonly")
        return cls(name=name, tag=run.tag, artifacts=artifacts, store=store, outputs=Path(options["outputs"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state of a run: how many results are done, what it runs or waits for, and its last failure."""

    name: str
    state: str
    done: int
    total: int
    detail: str = ""
    failure: FailureRecord | None = None


def collect_states(runs: Sequence[RunArtifacts], *, now: float) -> tuple[dict[str, ArtifactState], list[RunState]]:
    """Return the state of every result by key, and of every run; each result is inspected once."""
    artifact_states: dict[str, ArtifactState] = {}
    for run in runs:
        for artifact in run.artifacts:
            if artifact.key not in artifact_states:
                artifact_states[artifact.key] = artifact_state(run.store, artifact, now=now)
    names = {run.tag: run.name for run in reversed(runs)}
    # Assign a stage of unknown run to the first run that needs it, since runs are started in order.
    first = {artifact.key: run.tag for run in reversed(runs) for artifact in run.artifacts}
    owners = {key: each.run or first[key] for key, each in artifact_states.items()}
    failures = [last_failure(run.outputs, run.tag) for run in runs]
    states = [
        run_state(run, artifact_states, owners=owners, names=names, failure=failure)
        for run, failure in zip(runs, failures, strict=True)
    ]
    return artifact_states, states


def run_state(
    run: RunArtifacts,
    artifact_states: Mapping[str, ArtifactState],
    *,
    owners: Mapping[str, str],
    names: Mapping[str, str],
    failure: FailureRecord | None,
) -> RunState:
    """Determine the state of a run.

    Args:
        run: The run.
        artifact_states: The states of the results, by key.
        owners: The tag of the run that computes each result, or did, by key.
        names: The names of the runs, by tag.
        failure: Its last recorded failure.
    """
    states = {artifact.key: artifact_states[artifact.key] for artifact in run.artifacts}
    done = sum(each.state == "done" for each in states.values())

    def in_state(state: str, detail: str, *, failure: FailureRecord | None = None) -> RunState:
        return RunState(name=run.name, state=state, done=done, total=len(states), detail=detail, failure=failure)

    def select(state: State, *, own: bool) -> list[Artifact]:
        return [
            each for each in run.artifacts if states[each.key].state == state and own == (owners[each.key] == run.tag)
        ]

    if done == len(states):
        return in_state("done", "")
    if running := select("running", own=True):
        return in_state("running", ", ".join(map(title, running)))
    started = select("interrupted", own=True)
    # A later attempt that was killed records no failure, but it has started a stage after this one.
    if failure is not None and all(states[each.key].started <= failure.time for each in started):
        return in_state("failed", "", failure=failure)
    if started:
        suffixed = (f"{title(each)}{progress_suffix(states[each.key])}" for each in started)
        return in_state("interrupted", ", ".join(suffixed))
    if others := select("running", own=False):
        owner = owners[others[0].key]
        return in_state("waiting", f"for {title(others[0])}, computed by {names.get(owner, owner)}")
    following = next(each for each in run.artifacts if states[each.key].state != "done")
    return in_state("not started", f"next: {title(following)}{progress_suffix(states[following.key])}")


def title(artifact: Artifact) -> str:
    """Format the stage and label of a result."""
    return f"{artifact.stage} {artifact.label}".strip()


def progress_suffix(state: ArtifactState) -> str:
    """Format the progress of an interrupted result, to follow its title; empty if unknown."""
    progress = state.progress
    if state.state != "interrupted" or not progress:
        return ""
    return f" at {progress['done']} of {progress['total']} {progress['unit']}"


def counts(runs: Sequence[RunState]) -> str:
    """Count the runs in each state, in words."""
    number = Counter(run.state for run in runs)
    parts = [f"{number[state]} {state}" for state in STATES if number[state]]
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(parts)}"
