"""What a cell would make, as a person reads it before anything runs (``plan=true``)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.cellgraph import Graph
from meow_lightning.machine import duration, free_disk, readable
from meow_lightning.preflight import Preflight
from meow_lightning.store import Artifact
from meow_lightning.terminal import Terminal


def show_plan(cell: Graph, preflight: Preflight, artifacts: Sequence[Artifact]) -> None:
    """Show what is there, what would be made, and what that takes."""
    with Terminal(title=f"plan of {cell.name}") as terminal:
        terminal.table(plan_rows(preflight, artifacts), title="")
        for line in plan_sum(preflight, artifacts):
            terminal.say(line)


def plan_rows(preflight: Preflight, artifacts: Sequence[Artifact]) -> list[list[str]]:
    """The rows of a plan: stage, whose, key, there or to be made, time and memory; the head first."""
    rows = [["stage", "of", "key", "state", "time", "memory"]]
    for artifact in artifacts:
        outlook = preflight.outlook(artifact)
        seconds, how = preflight.time(artifact)
        partial = preflight.store.partial(artifact).exists()
        state = "found" if how == "took" else "resume" if partial else "make"
        time = {"": "", "took": "took ", "like": "may take ", "size": "may take (by size) "}[how]
        time += duration(seconds) if seconds is not None else ""
        memory = "" if outlook.memory is None else readable(outlook.memory.total)
        rows.append([artifact.stage, artifact.label, artifact.key, state, time, memory])
    return rows


def plan_sum(preflight: Preflight, artifacts: Sequence[Artifact]) -> list[str]:
    """What all that is to be made will take, in sentences."""
    lacking = [artifact for artifact in artifacts if preflight.store.find(artifact) is None]
    if not lacking:
        return ["nothing to be made: all of it is in the store"]
    made = [preflight.outlook(artifact) for artifact in lacking]
    times = [preflight.time(artifact)[0] for artifact in lacking]
    seconds = [each for each in times if each is not None]
    unknown = len(times) - len(seconds)
    most = max((outlook.memory.total for outlook in made if outlook.memory is not None), default=0)
    store = preflight.store.root
    time = f"{duration(sum(seconds))} of stages one after the other" if seconds else "not known before its first batch"
    asked = preflight.questions(artifacts)
    return [
        *([asked] if asked else []),
        f"time: {time}" + (f", and {unknown} stages of which none alike was ever made" if unknown and seconds else ""),
        f"memory: {readable(most)} at most per stage, {readable(preflight.there)} free",
        f"disk: {readable(preflight.disk(made))} at most, {readable(free_disk(store))} free at {store}",
    ]
