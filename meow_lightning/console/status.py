"""Display of ``status=true``: the states of runs and of their results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from meow_lightning.console.console import (
    OTHER_CODE,
    OTHER_CODE_LEGEND,
    Terminal,
    failure_lines,
    time_left,
)
from meow_lightning.errors import shorten_list
from meow_lightning.pipeline.state import (
    HEARTBEAT_TIMEOUT,
    ArtifactState,
    RunArtifacts,
    RunState,
    collect_states,
    counts,
    progress_suffix,
    title,
)
from meow_lightning.resources.format import format_duration
from meow_lightning.store.artifact import Artifact

WORDS = ("of", "state", "detail", "process", "host", "run", "progress")


def show_run(run: RunArtifacts) -> None:
    """Show the state of every result of a run, and the running ones."""
    result_states, (state,) = collect_states([run], now=time.time())
    with Terminal(title=f"status of {run.name}") as terminal:
        terminal.table(stage_rows(run.artifacts, result_states), title="", words=WORDS)
        summary = f"{state.state} {state.detail}".strip()
        terminal.say(f"{summary}; {state.done} of {state.total} stages done")
        if any(each.other_code for each in result_states.values()):
            terminal.say(OTHER_CODE_LEGEND)
        _show_details(terminal, [run], [state], result_states)


def show_runs(runs: Sequence[RunArtifacts], invalid: Sequence[tuple[str, str]]) -> None:
    """Show the state of every run of a sweep, a count by state, and the running results.

    Args:
        runs: The runs.
        invalid: The names of runs with invalid options, and why.
    """
    result_states, states = collect_states(runs, now=time.time())
    states += [RunState(name=name, state="failed", done=0, total=0) for name, _ in invalid]
    with Terminal(title=f"status of {len(states)} runs") as terminal:
        terminal.table(run_rows(states), title="", words=WORDS)
        terminal.say(counts(states))
        _show_details(terminal, runs, states, result_states)
        for line in failure_lines("invalid", invalid):
            terminal.say(line)


def _show_details(
    terminal: Terminal,
    runs: Sequence[RunArtifacts],
    states: Sequence[RunState],
    result_states: Mapping[str, ArtifactState],
) -> None:
    rows = running_rows(runs, result_states, now=time.time())
    if len(rows) > 1:
        terminal.table(rows, title="running", words=WORDS)
    else:
        terminal.say("nothing is running")
    if any(each.state == "interrupted" for each in result_states.values()):
        terminal.say("interrupted results resume from their last checkpoint or finished row when run again")
    if any(each.seconds_since_heartbeat is not None for each in result_states.values()):
        terminal.say(
            "note: locks of other machines are not visible here; their stages count as running until they report no "
            f"progress for {format_duration(HEARTBEAT_TIMEOUT)}"
        )
    for each in states:
        if each.failure is not None:
            terminal.say(f"failed: {each.name}: {each.failure.why}")
            terminal.say(f"        {each.failure.path}")


def run_rows(states: Sequence[RunState]) -> list[list[str]]:
    """Build the table of runs: name, state, finished stages, running, awaited or next ones; the header first."""
    rows = [["run", "state", "stages", "detail"]]
    return [*rows, *([each.name, each.state, f"{each.done}/{each.total}", each.detail] for each in states)]


def stage_rows(artifacts: Sequence[Artifact], result_states: Mapping[str, ArtifactState]) -> list[list[str]]:
    """Build the table of results: stage, role, key, state, and what it waits for; the header first."""
    rows = [["stage", "of", "key", "state", "detail"]]
    for artifact in artifacts:
        each = result_states[artifact.key]
        missing = [title(need) for need in artifact.needs.values() if result_states[need.key].state != "done"]
        detail = {
            "done": "",
            "running": "",
            "interrupted": progress_suffix(each).strip(),
            "missing": f"for {shorten_list(missing)}" if missing else "",
        }[each.state]
        state = "waiting" if missing and each.state == "missing" else each.state + OTHER_CODE * each.other_code
        rows.append([artifact.stage, artifact.label, artifact.key, state, detail])
    return rows


def running_rows(
    runs: Sequence[RunArtifacts], result_states: Mapping[str, ArtifactState], *, now: float
) -> list[list[str]]:
    """Build the table of running results: stage, role, key, process, host, run, progress; the header first."""
    names = {run.tag: run.name for run in reversed(runs)}
    artifacts = {artifact.key: artifact for run in runs for artifact in run.artifacts}
    rows = [["stage", "of", "key", "process", "host", "run", "progress"]]
    for key, artifact in artifacts.items():
        each = result_states[key]
        if each.state == "running":
            process, _, host = each.owner.partition("@")
            name = names.get(each.run, each.run)
            rows.append([artifact.stage, artifact.label, key, process, host, name, progress_text(each, now=now)])
    return rows


def progress_text(each: ArtifactState, *, now: float) -> str:
    """Format steps done, their total, the speed and the time left, as far as known."""
    progress = each.progress
    if progress is None:
        text = f"started {format_duration(now - each.started)} ago"
    else:
        text = f"{progress['done']} of {progress['total']} {progress['unit']}"
        if (left := time_left(progress)) is not None:
            text += f", {left}"
    if each.seconds_since_heartbeat is None:
        return text
    return f"{text}, last heartbeat {format_duration(each.seconds_since_heartbeat)} ago"
