from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from helpers.common import artifact

from meow_lightning.console.status import (
    progress_text,
    run_rows,
    running_rows,
    show_run,
    show_runs,
    stage_rows,
)
from meow_lightning.errors import UserError
from meow_lightning.pipeline.failures import record_failure
from meow_lightning.pipeline.state import ArtifactState, RunArtifacts, RunState
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.store import Store

BASE = artifact("finetune", "base")
TARGET = artifact("finetune", "target", BASE)
REPORT = artifact("report", "", TARGET, BASE)
SAID = {"done": 60, "total": 90, "unit": "steps", "time": 50.0, "rate": 1.0}


def words(said: str) -> list[str]:
    """The lines of a terminal, blanks as one."""
    return [" ".join(line.split()) for line in said.splitlines() if line.strip()]


def run(tmp_path: Path, name: str, *artifacts: Artifact) -> RunArtifacts:
    store = Store(root=tmp_path / "store", cache="use")
    return RunArtifacts(name=name, tag=f"{name}-tag", artifacts=artifacts, store=store, outputs=tmp_path)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (ArtifactState(state="running", progress=SAID), "60 of 90 steps, 1/s, 30 s left"),
        (ArtifactState(state="running", progress=SAID | {"rate": None}), "60 of 90 steps"),
        (
            ArtifactState(state="running", progress=SAID, seconds_since_heartbeat=45.0),
            "60 of 90 steps, 1/s, 30 s left, last heartbeat 45 s ago",
        ),
        (ArtifactState(state="running", started=40.0), "started 60 s ago"),
        (
            ArtifactState(state="running", progress={k: SAID[k] for k in ("done", "total", "unit", "time")}),
            "60 of 90 steps",
        ),
    ],
)
def test_progress_is_shown_as_far_as_it_is_known(state: ArtifactState, said: str) -> None:
    assert progress_text(state, now=100.0) == said


def test_a_stage_waits_for_what_it_needs() -> None:
    found = {BASE.key: ArtifactState(state="interrupted", progress=SAID), TARGET.key: ArtifactState(state="missing")}
    found[REPORT.key] = ArtifactState(state="missing")
    assert [row[3:] for row in stage_rows([BASE, TARGET, REPORT], found)] == [
        ["state", "detail"], ["interrupted", "at 60 of 90 steps"], ["waiting", "for finetune base"],
        ["waiting", "for finetune target, finetune base"],
    ]  # fmt: skip
    found[BASE.key] = ArtifactState(state="done")
    assert [row[3:] for row in stage_rows([BASE, TARGET], found)][1:] == [
        ["done", ""], ["missing", ""]
    ]  # fmt: skip


def test_results_of_other_code_are_marked(tmp_path: Path, capsys) -> None:
    one = run(tmp_path, "one", BASE, TARGET)
    for artifact_, manifest in ((BASE, {"code": "0123456789abcdef"}), (TARGET, {})):
        one.store.begin(artifact_)
        one.store.finish(artifact_, manifest)
    show_run(one)
    said = words(capsys.readouterr().out)
    assert f"finetune base {BASE.key} done*" in said
    assert f"finetune target {TARGET.key} done" in said
    assert "* computed by other code; cache=refresh recomputes it" in said


def test_running_stages_are_listed_once_with_process_host_and_run(tmp_path: Path) -> None:
    runs = [run(tmp_path, "one", BASE), run(tmp_path, "two", BASE, TARGET)]
    found = {BASE.key: ArtifactState(state="running", owner="7@node3", run="two-tag", progress=SAID)}
    found[TARGET.key] = ArtifactState(state="running", owner="8@node4", run="far-tag", started=90.0)
    assert running_rows(runs, found, now=100.0)[1:] == [
        ["finetune", "base", BASE.key, "7", "node3", "two", "60 of 90 steps, 1/s, 30 s left"],
        ["finetune", "target", TARGET.key, "8", "node4", "far-tag", "started 10 s ago"],
    ]


def test_a_line_per_run() -> None:
    state = RunState(name="method=kl", state="running", done=3, total=15, detail="finetune base")
    assert run_rows([state])[1:] == [["method=kl", "running", "3/15", "finetune base"]]


def test_a_sweep_is_a_table_counts_what_runs_and_why_runs_failed(tmp_path: Path, capsys) -> None:
    runs = [run(tmp_path, "one", BASE), run(tmp_path, "two", TARGET), run(tmp_path, "three", REPORT)]
    store = runs[0].store
    store.begin(BASE)
    store.finish(BASE, {})
    lock = store.lock(TARGET)
    assert lock is not None
    write_json(store.begin(TARGET) / "task.json", {"started": time.time(), "run": "two-tag"})
    failure = record_failure(tmp_path, "three-tag", UserError("no luck"), private=False)
    show_runs(runs, [("four", "seed=-1 is too small")])
    lock.release()
    said = words(capsys.readouterr().out)
    process, host = store.owner(TARGET).split("@")
    assert said == [
        "status of 4 runs", "run state stages detail", "one done 1/1", "two running 0/1 finetune target",
        "three failed 0/1", "four failed 0/0", "4 runs: 1 done, 1 running, 2 failed", "running",
        "stage of key process host run progress",
        f"finetune target {TARGET.key} {process} {host} two started 0 s ago",
        "failed: three: no luck", str(failure), "invalid: four: seed=-1 is too small",
    ]  # fmt: skip


def test_a_lone_run_is_a_line_per_stage_and_says_what_it_cannot_see(tmp_path: Path, capsys) -> None:
    one = run(tmp_path, "one", BASE, TARGET)
    lock = one.store.lock(BASE)
    assert lock is not None
    lock.release()
    write_json(one.store.begin(BASE) / "task.json", {"started": time.time() - 1000, "run": "one-tag"})
    show_run(one)
    interrupted = "interrupted results resume from their last checkpoint or finished row when run again"
    expected = [
        "status of one", "stage of key state detail", f"finetune base {BASE.key} interrupted",
        f"finetune target {TARGET.key} waiting for finetune base",
        "interrupted finetune base; 0 of 2 stages done", "nothing is running", interrupted,
    ]  # fmt: skip
    assert words(capsys.readouterr().out) == expected
    owner = one.store.root / ".locks" / f"finetune-{BASE.key}.owner"
    owner.write_text(owner.read_text().replace(socket.gethostname(), "elsewhere"))
    show_run(one)
    assert words(capsys.readouterr().out) == [
        *expected,
        "note: locks of other machines are not visible here; their stages count as running until they report no "
        "progress for 10 min",
    ]
