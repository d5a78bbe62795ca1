"""What a person reads of how cells stand (``status=true``)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from meow_lightning.console.console import OTHER_CODE, OTHER_CODE_LEGEND, Terminal, time_left
from meow_lightning.pipeline.state import (
    HEARTBEAT_TIMEOUT,
    ArtifactState,
    Cell,
    RunState,
    collect_states,
    counts,
    progress_suffix,
    title,
)
from meow_lightning.resources.format import format_duration
from meow_lightning.store.artifact import Artifact

WORDS = ("of", "state", "what", "process", "host", "cell", "how far")


def show_cell(cell: Cell) -> None:
    """Show how every result of a cell stands, and what runs now."""
    found, (stands,) = collect_states([cell], now=time.time())
    with Terminal(title=f"status of {cell.name}") as terminal:
        terminal.table(stage_rows(cell.artifacts, found), title="", words=WORDS)
        said = f"{stands.state} {stands.what}".strip()
        terminal.say(f"{said}; {stands.made} of {stands.wanted} stages are there")
        if any(each.other_code for each in found.values()):
            terminal.say(OTHER_CODE_LEGEND)
        _show_below(terminal, [cell], [stands], found)


def show_cells(cells: Sequence[Cell], unfit: Sequence[tuple[str, str]]) -> None:
    """Show how every cell of a sweep stands, how many stand how, and what runs now.

    Args:
        cells: The cells.
        unfit: The words of those that cannot be, and why.
    """
    found, stands = collect_states(cells, now=time.time())
    stands += [RunState(name=name, state="failed", made=0, wanted=0) for name, _ in unfit]
    with Terminal(title=f"status of {len(stands)} cells") as terminal:
        terminal.table(cell_rows(stands), title="", words=WORDS)
        terminal.say(counts(stands))
        _show_below(terminal, cells, stands, found)
        for name, why in unfit:
            terminal.say(f"cannot be: {name}: {why}")


def _show_below(
    terminal: Terminal, cells: Sequence[Cell], stands: Sequence[RunState], found: Mapping[str, ArtifactState]
) -> None:
    rows = running_rows(cells, found, now=time.time())
    if len(rows) > 1:
        terminal.table(rows, title="running now", words=WORDS)
    else:
        terminal.say("nothing runs now")
    if any(each.state == "interrupted" for each in found.values()):
        terminal.say("what is interrupted goes on when it is run again, from its last checkpoint or finished row")
    if any(each.silent is not None for each in found.values()):
        terminal.say(
            "note: locks of other machines cannot be seen from here: a stage of theirs counts as running until it has "
            f"said nothing for {format_duration(HEARTBEAT_TIMEOUT)}"
        )
    for each in stands:
        if each.story is not None:
            terminal.say(f"failed: {each.name}: {each.story.why}")
            terminal.say(f"        {each.story.path}")


def cell_rows(stands: Sequence[RunState]) -> list[list[str]]:
    """A line per cell: its name, its state, stages that are there, what it is at or waits for; the head first."""
    rows = [["cell", "state", "stages", "what"]]
    return [*rows, *([each.name, each.state, f"{each.made}/{each.wanted}", each.what] for each in stands)]


def stage_rows(artifacts: Sequence[Artifact], found: Mapping[str, ArtifactState]) -> list[list[str]]:
    """A line per result of a cell: stage, whose, key, state, and what it waits for; the head first."""
    rows = [["stage", "of", "key", "state", "what"]]
    for artifact in artifacts:
        each = found[artifact.key]
        lacking = [title(need) for need in artifact.needs.values() if found[need.key].state != "done"]
        what = {
            "done": "",
            "running": "",
            "interrupted": progress_suffix(each).strip(),
            "lacking": f"for {shortened_list(lacking)}" if lacking else "nobody makes it now",
        }[each.state]
        state = "waiting" if each.state == "lacking" else each.state + OTHER_CODE * each.other_code
        rows.append([artifact.stage, artifact.label, artifact.key, state, what])
    return rows


def shortened_list(names: Sequence[str]) -> str:
    """The first two names, and how many there are besides; each named once."""
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:2]) + (f" and {len(distinct) - 2} more" if len(distinct) > 2 else "")


def running_rows(cells: Sequence[Cell], found: Mapping[str, ArtifactState], *, now: float) -> list[list[str]]:
    """A line per result that is made now: stage, whose, key, by which process and host, for which cell, how far."""
    names = {cell.tag: cell.name for cell in reversed(cells)}
    artifacts = {artifact.key: artifact for cell in cells for artifact in cell.artifacts}
    rows = [["stage", "of", "key", "process", "host", "cell", "how far"]]
    for key, artifact in artifacts.items():
        each = found[key]
        if each.state == "running":
            process, _, host = each.owner.partition("@")
            cell = names.get(each.cell, each.cell)
            rows.append([artifact.stage, artifact.label, key, process, host, cell, progress_text(each, now=now)])
    return rows


def progress_text(each: ArtifactState, *, now: float) -> str:
    """Steps done and in all, the speed, and the time left, as far as these are known."""
    said = each.progress
    if said is None:
        words = f"began {format_duration(now - each.begun)} ago"
    else:
        words = f"{said['done']} of {said['total']} {said['unit']}"
        if (left := time_left(said)) is not None:
            words += f", {left}"
    return words if each.silent is None else f"{words}, last word {format_duration(each.silent)} ago"
