"""What cells would make, as a person reads it before anything runs (``plan=true``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from meow_lightning.console.console import OTHER_CODE, OTHER_CODE_LEGEND, Terminal
from meow_lightning.planning.preflight import Preflight
from meow_lightning.planning.requirements import Requirements
from meow_lightning.resources.cost import SPREAD, Source
from meow_lightning.resources.format import format_bytes, format_duration
from meow_lightning.resources.hardware import free_disk
from meow_lightning.store.artifact import Artifact


class Planned(NamedTuple):
    """A cell before it runs: its name (its words in a sweep), what it takes, what its goal asks for, needs first."""

    name: str
    preflight: Preflight
    artifacts: Sequence[Artifact]

    def state(self, artifact: Artifact) -> str:
        """``found``, ``resume`` or ``make``."""
        took = self.preflight.time(artifact)[1] == "took"
        return "found" if took else "resume" if self.preflight.store.partial(artifact).exists() else "make"


class Step(NamedTuple):
    """Something to be made: after what, for how long, and how many may run when it has started, itself counted."""

    key: str
    needs: Collection[str]
    seconds: float
    slots: int


def show_plan(planned: Planned) -> None:
    """Show what of a cell is there, what would be made, and what that takes."""
    with Terminal(title=f"plan of {planned.name}") as terminal:
        terminal.table(plan_rows(planned), title="")
        if any(map(planned.preflight.made_by_other_code, planned.artifacts)):
            terminal.say(OTHER_CODE_LEGEND)
        for line in plan_sum([planned]):
            terminal.say(line)


def show_sweep_plan(cells: Sequence[Planned], unfit: Sequence[tuple[str, str]]) -> None:
    """Show what a sweep would make, what several cells share once, and what that takes.

    Args:
        cells: The cells that can be planned.
        unfit: The words of those that cannot run here, and why.
    """
    with Terminal(title=f"plan of {len(cells)} cells") as terminal:
        rows = sweep_rows(cells)
        if len(rows) > 1:
            terminal.table(rows, title="", words=("of", "for"))
        for line in plan_sum(cells) if cells else ():
            terminal.say(line)
        for name, why in unfit:
            terminal.say(f"failed: {name}: {why}")


def plan_rows(planned: Planned) -> list[list[str]]:
    """The rows of a plan: stage, whose, key, there or to be made, time and memory; the head first."""
    rows = [["stage", "of", "key", "state", "time", "memory"]]
    for artifact in planned.artifacts:
        outlook = planned.preflight.outlook(artifact)
        memory = _memory(outlook)
        state = planned.state(artifact) + OTHER_CODE * planned.preflight.made_by_other_code(artifact)
        rows.append([artifact.stage, artifact.label, artifact.key, state, _time(planned, artifact), memory])
    return rows


def sweep_rows(cells: Sequence[Planned]) -> list[list[str]]:
    """The rows of a sweep's plan: what is to be made, in order, what that takes, and for whom; the head first."""
    wanted = Counter(key for cell in cells for key in {artifact.key for artifact in cell.artifacts})
    rows = [["stage", "of", "key", "state", "time", "memory", "disk", "for"]]
    for cell, artifacts in zip(cells, shared_artifacts(cells), strict=True):
        for artifact in artifacts:
            outlook, others = cell.preflight.outlook(artifact), wanted[artifact.key] - 1
            rows.append([
                artifact.stage, artifact.label, artifact.key, cell.state(artifact), _time(cell, artifact),
                _memory(outlook), format_bytes(outlook.disk) if outlook.disk else "",
                cell.name + (f" and {others} more" if others else ""),
            ])  # fmt: skip
    return rows


def _time(planned: Planned, artifact: Artifact) -> str:
    seconds, how = planned.preflight.time(artifact)
    if seconds is None:
        return "unknown" if planned.preflight.outlook(artifact).flops else ""
    if how == "far":
        return f"{format_range(*_bounds(seconds, how))} (guess)"
    return {"took": "took ", "like": "may take ", "size": "may take (by size) "}[how] + format_duration(seconds)


def _bounds(seconds: float, how: Source) -> tuple[float, float]:
    """The least and the most that a time may turn out to be; both are the time itself where it is no guess."""
    return (seconds / SPREAD, seconds * SPREAD) if how == "far" else (seconds, seconds)


def format_range(low: float, high: float) -> str:
    """Two times as one text: ``2 to 9 min``, or a single time where both read the same."""
    first, last = format_duration(low), format_duration(high)
    if first == last:
        return first
    unit = last.rpartition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} to {last.removeprefix('about ')}"


def _memory(outlook: Requirements) -> str:
    return "" if outlook.memory is None else format_bytes(outlook.memory.total)


def shared_artifacts(cells: Sequence[Planned]) -> list[list[Artifact]]:
    """What each cell would make when they run one after the other: what is not there, and no cell before it makes."""
    made: set[str] = set()
    lots = []
    for cell in cells:
        lot = [each for each in cell.artifacts if each.key not in made and cell.state(each) != "found"]
        made |= {each.key for each in lot}
        lots.append(lot)
    return lots


def plan_sum(cells: Sequence[Planned]) -> list[str]:
    """What all that is to be made will take, in sentences."""
    lots = shared_artifacts(cells)
    made = [(cell.preflight, each) for cell, lot in zip(cells, lots, strict=True) for each in lot]
    other = _other_code(cells)
    if not made:
        return [f"nothing to be made: all of it is in the store{other}"]
    outlooks = [preflight.outlook(each) for preflight, each in made]
    found = len({each.key for cell in cells for each in cell.artifacts}) - len(made)
    most = max((outlook.memory.total for outlook in outlooks if outlook.memory is not None), default=0)
    first = made[0][0]
    return [
        *_questions(cells, lots),
        f"stages: {len(made)} to make, {found} found{other}",
        _times(cells, lots, [preflight.time(each) for preflight, each in made]),
        *_gpu_time(made),
        f"memory: {format_bytes(most)} at most per stage, {format_bytes(first.there)} free",
        f"disk: {format_bytes(first.disk(outlooks))} at most, {format_bytes(free_disk(first.store.root))} free at "
        f"{first.store.root}",
    ]


def _other_code(cells: Sequence[Planned]) -> str:
    """How many of the results that are found were made by other code, in parentheses; empty if none was."""
    keys = {each.key for cell in cells for each in cell.artifacts if cell.preflight.made_by_other_code(each)}
    return f" ({len(keys)} made by other code)" if keys else ""


def _questions(cells: Sequence[Planned], lots: Sequence[Sequence[Artifact]]) -> list[str]:
    least, most = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for cell, lot in zip(cells, lots, strict=True):
        if (asked := cell.preflight.questions(lot)) is not None:
            whom, low, high, tokens = asked
            least[whom, tokens] += low
            most[whom, tokens] += high
    return [
        f"questions to {whom}: {least[whom, tokens]} to {most[whom, tokens]}, with replies of at most {tokens} tokens"
        for whom, tokens in most
    ]


def _times(
    cells: Sequence[Planned], lots: Sequence[Sequence[Artifact]], times: Sequence[tuple[float | None, Source]]
) -> str:
    bounds = [_bounds(seconds, how) for seconds, how in times if seconds is not None]
    if not bounds:
        return "time: not known before its first batch"
    jobs = sorted({cell.preflight.trainer["jobs"] for cell in cells})
    text = f"time: {format_range(*map(sum, zip(*bounds, strict=True)))} of stages one after the other"
    if max(jobs) > 1:
        ends = [
            sum(elapsed(steps(cell, lot, bound=bound)) for cell, lot in zip(cells, lots, strict=True))
            for bound in (0, 1)
        ]
        text += f", {format_range(*ends)} with trainer.jobs={','.join(map(str, jobs))}"
    if any(how == "far" for _, how in times):
        text += ", a guess from models of another size"
    unknown = len(times) - len(bounds)
    return text + (f", and {unknown} stages of which none alike was ever made" if unknown else "")


def _gpu_time(made: Sequence[tuple[Preflight, Artifact]]) -> list[str]:
    on_gpu = [(preflight, each) for preflight, each in made if preflight.on_gpu and preflight.devices(each)]
    if not on_gpu:
        return []
    times = [(*preflight.time(each), preflight.devices(each)) for preflight, each in on_gpu]
    known = [(_bounds(seconds, how), devices) for seconds, how, devices in times if seconds is not None]
    low, high = (gpu_hours([(bounds[end], devices) for bounds, devices in known]) for end in (0, 1))
    unknown = len(times) - len(known)
    hours = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
    text = f"{hours} GPU-hours" if known else "not known before its first batch"
    return [f"GPU time: {text}" + (f", and {unknown} stages of unknown time" if 0 < unknown < len(times) else "")]


def gpu_hours(stages: Sequence[tuple[float, int]]) -> float:
    """The sum of seconds * devices over stages, in hours: sum_i s_i d_i / 3600."""
    return sum(seconds * devices for seconds, devices in stages) / 3600


def steps(cell: Planned, lot: Sequence[Artifact], *, bound: int) -> list[Step]:
    """What a cell would make as steps of known time; a stage over several devices starts when nothing else runs.

    Args:
        cell: Whose stages.
        lot: What is to be made.
        bound: 0 for the least time that each may take, 1 for the most.
    """
    preflight, jobs = cell.preflight, cell.preflight.trainer["jobs"]
    return [
        Step(
            key=each.key, needs=[need.key for need in each.needs.values()],
            seconds=_seconds(preflight.time(each), bound), slots=1 if preflight.devices(each) > 1 else jobs,
        )
        for each in lot
    ]  # fmt: skip


def _seconds(time: tuple[float | None, Source], bound: int) -> float:
    seconds, how = time
    return 0.0 if seconds is None else _bounds(seconds, how)[bound]


def elapsed(lot: Sequence[Step]) -> float:
    """Seconds until all steps are made, when whatever may start does so at once, the first in order before the others.

    What a step needs and is not among the steps is there already.
    """
    pending: Mapping[str, Step] = {step.key: step for step in lot}
    running: dict[str, float] = {}
    now = 0.0
    while pending or running:
        for step in list(pending.values()):
            waits = any(need in pending or need in running for need in step.needs)
            if not waits and len(running) < step.slots:
                running[step.key] = now + step.seconds
                pending = {key: each for key, each in pending.items() if key != step.key}
        now = min(running.values())
        running = {key: end for key, end in running.items() if end > now}
    return now
