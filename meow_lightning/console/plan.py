"""Display of ``plan=true``: the results that runs would compute, and the time, memory and disk required."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from meow_lightning.console.console import OTHER_CODE, OTHER_CODE_LEGEND, Terminal, failure_lines
from meow_lightning.planning.preflight import Preflight
from meow_lightning.resources.cost import SPREAD, Source
from meow_lightning.resources.format import format_bytes, format_duration
from meow_lightning.resources.hardware import free_disk
from meow_lightning.store.artifact import Artifact


class Planned(NamedTuple):
    """A planned run.

    Attributes:
        name: Its name; in a sweep the options that distinguish it.
        preflight: Its preflight.
        artifacts: The artifacts of its goal, each after its needs.
    """

    name: str
    preflight: Preflight
    artifacts: Sequence[Artifact]

    def state(self, artifact: Artifact) -> str:
        """Return the planned state of an artifact: ``cached``, ``link`` (a provided model), ``resume``, ``compute``."""
        if self.preflight.time(artifact)[1] == "took":
            return "cached"
        if "given" in artifact.settings:
            return "link"
        return "resume" if self.preflight.store.partial(artifact).exists() else "compute"


class Step(NamedTuple):
    """A stage to compute.

    Attributes:
        key: Key of its artifact.
        needs: Keys of the artifacts that it needs.
        seconds: Its estimated duration.
        slots: Maximum number of stages running while it runs.
    """

    key: str
    needs: Collection[str]
    seconds: float
    slots: int


def show_plan(planned: Planned, *, prompt: str) -> None:
    """Show which results of a run are cached, which would be computed, and the resources required.

    Args:
        planned: The run.
        prompt: How questions are put to the model, see :func:`~meow_lightning.data.prompting.describe_prompt`.
    """
    with Terminal(title=f"plan of {planned.name}") as terminal:
        terminal.table(plan_rows(planned), title="", words=("of", "time", "memory"))
        if any(map(planned.preflight.made_by_other_code, planned.artifacts)):
            terminal.say(OTHER_CODE_LEGEND)
        terminal.say(f"prompt of a question: {prompt}")
        for line in plan_sum([planned]):
            terminal.say(line)


def show_sweep_plan(runs: Sequence[Planned], invalid: Sequence[tuple[str, str]]) -> None:
    """Show the results that a sweep would compute, shared ones once, and the resources required.

    Args:
        runs: The runs that can be planned.
        invalid: The names of the runs that cannot run here, and why.
    """
    with Terminal(title=f"plan of {len(runs)} runs") as terminal:
        rows = sweep_rows(runs)
        if len(rows) > 1:
            terminal.table(rows, title="", words=("of", "for"))
        for line in plan_sum(runs) if runs else ():
            terminal.say(line)
        for line in failure_lines("failed", invalid):
            terminal.say(line)


def plan_rows(planned: Planned) -> list[list[str]]:
    """Build the rows of a plan: stage, role, key, state, time and memory; the header first."""
    rows = [["stage", "of", "key", "state", "time", "memory"]]
    for artifact in planned.artifacts:
        memory = _memory(planned, artifact)
        state = planned.state(artifact) + OTHER_CODE * planned.preflight.made_by_other_code(artifact)
        rows.append([artifact.stage, artifact.label, artifact.key, state, _time(planned, artifact), memory])
    return rows


def sweep_rows(runs: Sequence[Planned]) -> list[list[str]]:
    """Build the rows of a sweep's plan: results to compute, in order, their cost, and the runs that need them."""
    uses = Counter(key for run in runs for key in {artifact.key for artifact in run.artifacts})
    rows = [["stage", "of", "key", "state", "time", "memory", "disk", "for"]]
    for run, artifacts in zip(runs, shared_artifacts(runs), strict=True):
        for artifact in artifacts:
            outlook, others = run.preflight.outlook(artifact), uses[artifact.key] - 1
            rows.append([
                artifact.stage, artifact.label, artifact.key, run.state(artifact), _time(run, artifact),
                _memory(run, artifact), format_bytes(outlook.disk) if outlook.disk else "",
                run.name + (f" and {others} more" if others else ""),
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
    """Return the bounds of a duration; both equal the duration unless it is a guess."""
    return (seconds / SPREAD, seconds * SPREAD) if how == "far" else (seconds, seconds)


def format_range(low: float, high: float) -> str:
    """Format a range of durations, such as ``2 to 9 min``; a single duration if both read the same."""
    first, last = format_duration(low), format_duration(high)
    if first == last:
        return first
    unit = last.rpartition(" ")[2]
    return f"{first.removesuffix(f' {unit}')} to {last.removeprefix('about ')}"


def _memory(planned: Planned, artifact: Artifact) -> str:
    memory = planned.preflight.memory(artifact)
    return "" if memory is None else f"{format_bytes(memory[0])} ({memory[1]})"


def shared_artifacts(runs: Sequence[Planned]) -> list[list[Artifact]]:
    """List the results that each run would compute: neither cached nor computed by an earlier run."""
    planned: set[str] = set()
    by_run = []
    for run in runs:
        own = [each for each in run.artifacts if each.key not in planned and run.state(each) != "cached"]
        planned |= {each.key for each in own}
        by_run.append(own)
    return by_run


def plan_sum(runs: Sequence[Planned]) -> list[str]:
    """Summarize the resources that the planned stages require, one line per resource."""
    by_run = shared_artifacts(runs)
    pending = [(run.preflight, each) for run, stages in zip(runs, by_run, strict=True) for each in stages]
    other = _other_code(runs)
    if not pending:
        return [f"nothing to compute: everything is cached{other}"]
    outlooks = [preflight.outlook(each) for preflight, each in pending]
    cached = len({each.key for run in runs for each in run.artifacts}) - len(pending)
    memory = [found for preflight, each in pending if (found := preflight.memory(each)) is not None]
    peak, source = max(memory, default=(0, "estimated"))
    links = sum("given" in each.settings for _, each in pending)
    first = pending[0][0]
    return [
        *_requests(runs, by_run),
        f"stages: {len(pending) - links} to compute, {f'{links} to link, ' if links else ''}{cached} cached{other}",
        _times(runs, by_run, [preflight.time(each) for preflight, each in pending]),
        *_gpu_time(pending),
        f"memory: {format_bytes(peak)} ({source}) at most per stage, {format_bytes(first.available_memory)} free",
        f"disk: {format_bytes(first.disk(outlooks))} at most, {format_bytes(free_disk(first.store.root))} free at "
        f"{first.store.root}",
    ]


def _other_code(runs: Sequence[Planned]) -> str:
    """Format in parentheses how many cached results a different code version computed; empty if none."""
    keys = {each.key for run in runs for each in run.artifacts if run.preflight.made_by_other_code(each)}
    return f" ({len(keys)} computed by other code)" if keys else ""


def _requests(runs: Sequence[Planned], by_run: Sequence[Sequence[Artifact]]) -> list[str]:
    least, most = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for run, stages in zip(runs, by_run, strict=True):
        for each in run.preflight.requests(stages):
            least[each.model, each.tokens] += each.least
            most[each.model, each.tokens] += each.most
    return [
        f"requests to {model}: {least[model, tokens]} to {most[model, tokens]}, replies of at most {tokens} tokens"
        for model, tokens in most
    ]


def _times(
    runs: Sequence[Planned], by_run: Sequence[Sequence[Artifact]], times: Sequence[tuple[float | None, Source]]
) -> str:
    bounds = [_bounds(seconds, how) for seconds, how in times if seconds is not None]
    if not bounds:
        return "time: unknown until a first batch is measured"
    parallel_stages = sorted({run.preflight.trainer.parallel_stages for run in runs})
    text = f"time: {format_range(*map(sum, zip(*bounds, strict=True)))} if stages run sequentially"
    if max(parallel_stages) > 1:
        ends = [
            sum(elapsed(steps(run, stages, bound=bound)) for run, stages in zip(runs, by_run, strict=True))
            for bound in (0, 1)
        ]
        text += f", {format_range(*ends)} with trainer.parallel_stages={','.join(map(str, parallel_stages))}"
    if any(how == "far" for _, how in times):
        text += ", extrapolated from models of another size"
    unknown = len(times) - len(bounds)
    return text + (f", plus {_stages(unknown)} of unknown time (no similar result in the store)" if unknown else "")


def _stages(count: int) -> str:
    return f"{count} stage{'s' if count > 1 else ''}"


def _gpu_time(pending: Sequence[tuple[Preflight, Artifact]]) -> list[str]:
    on_gpu = [(preflight, each) for preflight, each in pending if preflight.on_gpu and preflight.devices(each)]
    if not on_gpu:
        return []
    times = [(*preflight.time(each), preflight.devices(each)) for preflight, each in on_gpu]
    known = [(_bounds(seconds, how), devices) for seconds, how, devices in times if seconds is not None]
    low, high = (gpu_hours([(bounds[end], devices) for bounds, devices in known]) for end in (0, 1))
    unknown = len(times) - len(known)
    hours = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
    text = f"{hours} GPU-hours" if known else "unknown until a first batch is measured"
    return [f"GPU time: {text}" + (f", plus {_stages(unknown)} of unknown time" if 0 < unknown < len(times) else "")]


def gpu_hours(stages: Sequence[tuple[float, int]]) -> float:
    """Sum seconds * devices over stages, in hours: sum_i s_i d_i / 3600."""
    return sum(seconds * devices for seconds, devices in stages) / 3600


def steps(run: Planned, stages: Sequence[Artifact], *, bound: int) -> list[Step]:
    """Convert the stages of a run to steps of known duration; one on several devices runs alone.

    Args:
        run: The run.
        stages: Its stages to compute.
        bound: 0 for the lower bound of each duration, 1 for the upper.
    """
    preflight, parallel_stages = run.preflight, run.preflight.trainer.parallel_stages
    return [
        Step(
            key=each.key, needs=[need.key for need in each.needs.values()],
            seconds=_seconds(preflight.time(each), bound), slots=1 if preflight.devices(each) > 1 else parallel_stages,
        )
        for each in stages
    ]  # fmt: skip


def _seconds(time: tuple[float | None, Source], bound: int) -> float:
    seconds, how = time
    return 0.0 if seconds is None else _bounds(seconds, how)[bound]


def elapsed(sequence: Sequence[Step]) -> float:
    """Compute the seconds until all steps are done if each starts as soon as possible, in order.

    Needs outside the steps count as cached.
    """
    pending: Mapping[str, Step] = {step.key: step for step in sequence}
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
