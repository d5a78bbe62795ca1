from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from helpers.common import artifact

from meow_lightning.console.status import (
    cell_rows,
    progress_text,
    running_rows,
    shortened_list,
    show_cell,
    show_cells,
    stage_rows,
)
from meow_lightning.errors import UserError
from meow_lightning.pipeline.failures import record_failure
from meow_lightning.pipeline.state import ArtifactState, Cell, RunState
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


def cell(tmp_path: Path, name: str, *artifacts: Artifact) -> Cell:
    store = Store(root=tmp_path / "store", cache="use")
    return Cell(name=name, tag=f"{name}-tag", artifacts=artifacts, store=store, outputs=tmp_path)


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        (ArtifactState(state="running", progress=SAID), "60 of 90 steps, 1/s, 30 s left"),
        (ArtifactState(state="running", progress=SAID | {"rate": None}), "60 of 90 steps"),
        (
            ArtifactState(state="running", progress=SAID, silent=45.0),
            "60 of 90 steps, 1/s, 30 s left, last word 45 s ago",
        ),
        (ArtifactState(state="running", begun=40.0), "began 60 s ago"),
        (
            ArtifactState(state="running", progress={k: SAID[k] for k in ("done", "total", "unit", "time")}),
            "60 of 90 steps",
        ),
    ],
)
def test_how_far_is_told_as_far_as_it_is_known(standing: ArtifactState, said: str) -> None:
    assert progress_text(standing, now=100.0) == said


def test_few_names_are_said_once_and_many_are_counted() -> None:
    assert shortened_list(["a"]) == "a"
    assert shortened_list(["a", "b", "a"]) == "a, b"
    assert shortened_list(["a", "b", "c", "d"]) == "a, b and 2 more"


def test_a_stage_waits_for_what_it_needs() -> None:
    found = {BASE.key: ArtifactState(state="interrupted", progress=SAID), TARGET.key: ArtifactState(state="lacking")}
    found[REPORT.key] = ArtifactState(state="lacking")
    assert [row[3:] for row in stage_rows([BASE, TARGET, REPORT], found)] == [
        ["state", "what"], ["interrupted", "at 60 of 90 steps"], ["waiting", "for finetune base"],
        ["waiting", "for finetune target, finetune base"],
    ]  # fmt: skip
    found[BASE.key] = ArtifactState(state="done")
    assert [row[3:] for row in stage_rows([BASE, TARGET], found)][1:] == [
        ["done", ""], ["waiting", "nobody makes it now"]
    ]  # fmt: skip


def test_what_other_code_made_is_marked(tmp_path: Path, capsys) -> None:
    one = cell(tmp_path, "one", BASE, TARGET)
    for artifact_, manifest in ((BASE, {"code": "0123456789abcdef"}), (TARGET, {})):
        one.store.begin(artifact_)
        one.store.finish(artifact_, manifest)
    show_cell(one)
    said = words(capsys.readouterr().out)
    assert f"finetune base {BASE.key} done*" in said
    assert f"finetune target {TARGET.key} done" in said
    assert "* made by other code; cache=refresh computes them again" in said


def test_what_runs_is_listed_once_with_process_host_and_cell(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "one", BASE), cell(tmp_path, "two", BASE, TARGET)]
    found = {BASE.key: ArtifactState(state="running", owner="7@node3", cell="two-tag", progress=SAID)}
    found[TARGET.key] = ArtifactState(state="running", owner="8@node4", cell="far-tag", begun=90.0)
    assert running_rows(cells, found, now=100.0)[1:] == [
        ["finetune", "base", BASE.key, "7", "node3", "two", "60 of 90 steps, 1/s, 30 s left"],
        ["finetune", "target", TARGET.key, "8", "node4", "far-tag", "began 10 s ago"],
    ]


def test_a_line_per_cell() -> None:
    stands = RunState(name="method=kl", state="running", made=3, wanted=15, what="finetune base")
    assert cell_rows([stands])[1:] == [["method=kl", "running", "3/15", "finetune base"]]


def test_a_sweep_is_a_table_counts_what_runs_and_why_cells_failed(tmp_path: Path, capsys) -> None:
    cells = [cell(tmp_path, "one", BASE), cell(tmp_path, "two", TARGET), cell(tmp_path, "three", REPORT)]
    store = cells[0].store
    store.begin(BASE)
    store.finish(BASE, {})
    lock = store.lock(TARGET)
    assert lock is not None
    write_json(store.begin(TARGET) / "task.json", {"started": time.time(), "cell": "two-tag"})
    story = record_failure(tmp_path, "three-tag", UserError("no luck"), private=False)
    show_cells(cells, [("four", "seed=-1 is too small")])
    lock.release()
    said = words(capsys.readouterr().out)
    process, host = store.owner(TARGET).split("@")
    assert said == [
        "status of 4 cells", "cell state stages what", "one done 1/1", "two running 0/1 finetune target",
        "three failed 0/1", "four failed 0/0", "4 cells: 1 done, 1 running, 2 failed", "running now",
        "stage of key process host cell how far",
        f"finetune target {TARGET.key} {process} {host} two began 0 s ago",
        "failed: three: no luck", str(story), "cannot be: four: seed=-1 is too small",
    ]  # fmt: skip


def test_a_lone_cell_is_a_line_per_stage_and_says_what_it_cannot_see(tmp_path: Path, capsys) -> None:
    one = cell(tmp_path, "one", BASE, TARGET)
    lock = one.store.lock(BASE)
    assert lock is not None
    lock.release()
    write_json(one.store.begin(BASE) / "task.json", {"started": time.time() - 1000, "cell": "one-tag"})
    show_cell(one)
    interrupted = "what is interrupted goes on when it is run again, from its last checkpoint or finished row"
    expected = [
        "status of one", "stage of key state what", f"finetune base {BASE.key} interrupted",
        f"finetune target {TARGET.key} waiting for finetune base",
        "interrupted finetune base; 0 of 2 stages are there", "nothing runs now", interrupted,
    ]  # fmt: skip
    assert words(capsys.readouterr().out) == expected
    owner = one.store.root / ".locks" / f"finetune-{BASE.key}.owner"
    owner.write_text(owner.read_text().replace(socket.gethostname(), "elsewhere"))
    show_cell(one)
    assert words(capsys.readouterr().out) == [
        *expected,
        "note: locks of other machines cannot be seen from here: a stage of theirs counts as running until it has said "
        "nothing for 10 min",
    ]
