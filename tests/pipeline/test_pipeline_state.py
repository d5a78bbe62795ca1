from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.pipeline.failures import FailureRecord, record_failure
from meow_lightning.pipeline.state import (
    HEARTBEAT_TIMEOUT,
    ArtifactState,
    RunArtifacts,
    RunState,
    artifact_state,
    collect_states,
    counts,
    run_state,
)
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.store import Store

NOW = 10_000.0
HERE = f"7@{socket.gethostname()}"


def artifact(name: str, *needs: Artifact) -> Artifact:
    return Artifact(
        stage="finetune", label=name, version=1, settings={"name": name},
        needs={need.label: need for need in needs}, inputs={},
    )  # fmt: skip


BASE = artifact("base")
TARGET = artifact("target", BASE)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(root=tmp_path / "store", cache="use")


def begin(
    store: Store,
    what: Artifact,
    *,
    owner: str = HERE,
    started: float = NOW - 50,
    said: float | None = None,
    **more: Any,
) -> None:
    """A stage that somebody began, has said something of (``said``) and holds no more."""
    lock = store.lock(what)
    assert lock is not None
    folder = store.begin(what)
    write_json(folder / "task.json", {"started": started, **more})
    if said is not None:
        write_json(folder / "progress.json", {"done": 60, "total": 90, "unit": "steps", "time": said})
    lock.release()
    (store.root / ".locks" / f"{what.stage}-{what.key}.owner").write_text(owner)


def make(store: Store, what: Artifact) -> None:
    store.begin(what)
    store.finish(what, {"seconds": 1.0})


def test_results_never_started_are_missing_and_stored_ones_are_done(store: Store) -> None:
    assert artifact_state(store, BASE, now=NOW) == ArtifactState(state="missing")
    make(store, BASE)
    assert artifact_state(store, BASE, now=NOW) == ArtifactState(state="done")
    (store.path(BASE) / "manifest.json").unlink()
    assert artifact_state(store, BASE, now=NOW).state == "missing"


def test_a_look_leaves_nothing_behind_and_does_not_keep_anybody_out(store: Store) -> None:
    artifact_state(store, BASE, now=NOW)
    assert not store.root.exists()
    begin(store, BASE)
    artifact_state(store, BASE, now=NOW)
    lock = store.lock(BASE)
    assert lock is not None
    lock.release()


def test_a_locked_result_is_running_however_long_it_is_silent(store: Store) -> None:
    begin(store, BASE, run="run", said=NOW - 40)
    lock = store.lock(BASE)
    assert lock is not None
    found = artifact_state(store, BASE, now=NOW + 10 * HEARTBEAT_TIMEOUT)
    lock.release()
    assert (found.state, found.run, found.started, found.seconds_since_heartbeat) == ("running", "run", NOW - 50, None)
    assert found.owner.rpartition("@")[2] == socket.gethostname()
    assert found.progress is not None
    assert found.progress["done"] == 60


def test_the_last_word_of_a_killed_predecessor_is_not_that_of_who_runs_now(store: Store) -> None:
    begin(store, BASE, said=NOW - 60)
    lock = store.lock(BASE)
    assert lock is not None
    found = artifact_state(store, BASE, now=NOW)
    lock.release()
    assert (found.state, found.progress) == ("running", None)


def test_a_stage_in_the_course_of_sealing_runs(store: Store) -> None:
    begin(store, BASE)
    (store.partial(BASE) / "task.json").unlink()
    lock = store.lock(BASE)
    assert lock is not None
    found = artifact_state(store, BASE, now=NOW)
    lock.release()
    assert (found.state, found.run) == ("running", "")


def test_results_without_a_lock_on_this_host_are_interrupted_however_fresh(store: Store) -> None:
    begin(store, BASE, said=NOW - 1)
    found = artifact_state(store, BASE, now=NOW)
    assert (found.state, found.seconds_since_heartbeat) == ("interrupted", None)
    assert found.progress is not None
    assert found.progress["done"] == 60


@pytest.mark.parametrize(
    ("said", "started", "state", "seconds_since_heartbeat"),
    [
        (NOW - HEARTBEAT_TIMEOUT + 1, NOW - 9000, "running", HEARTBEAT_TIMEOUT - 1),
        (NOW - HEARTBEAT_TIMEOUT, NOW - 9000, "interrupted", HEARTBEAT_TIMEOUT),
        (None, NOW - 9, "running", 9.0),
        (NOW - 9000, NOW - 9, "running", 9.0),
    ],
)
@pytest.mark.parametrize("unseen", [False, True])
def test_a_lock_that_cannot_be_seen_is_judged_by_the_last_word(
    store: Store, monkeypatch, said, started, state, seconds_since_heartbeat, unseen
) -> None:
    begin(store, BASE, owner=HERE if unseen else "7@elsewhere", started=started, said=said)
    if unseen:
        monkeypatch.setattr(Store, "held", lambda self, artifact: None)
    found = artifact_state(store, BASE, now=NOW)
    assert (found.state, found.seconds_since_heartbeat) == (state, seconds_since_heartbeat)


def test_a_result_being_refreshed_is_running(store: Store) -> None:
    make(store, BASE)
    begin(store, BASE)
    assert artifact_state(store, BASE, now=NOW).state == "done"
    lock = store.lock(BASE)
    assert lock is not None
    assert artifact_state(store, BASE, now=NOW).state == "running"
    lock.release()


FAILURE = FailureRecord(path=Path("failure.txt"), time=NOW, why="no luck")
HELD = ArtifactState(state="running", owner=HERE, started=NOW)
LEFT = ArtifactState(
    state="interrupted", owner=HERE, started=NOW - 9, progress={"done": 6, "total": 9, "unit": "steps"}
)
DONE, MISSING = ArtifactState(state="done"), ArtifactState(state="missing")
ANEW = ArtifactState(state="interrupted", owner=HERE, started=NOW + 9)


@pytest.mark.parametrize(
    ("base", "target", "owner", "failure", "expected"),
    [
        (DONE, DONE, "tag", None, ("done", "")),
        (DONE, DONE, "tag", FAILURE, ("done", "")),
        (DONE, HELD, "tag", FAILURE, ("running", "finetune target")),
        (HELD, MISSING, "other", None, ("waiting", "for finetune base, computed by method=kl")),
        (HELD, MISSING, "far", None, ("waiting", "for finetune base, computed by far")),
        (HELD, MISSING, "other", FAILURE, ("failed", "")),
        (DONE, LEFT, "tag", None, ("interrupted", "finetune target at 6 of 9 steps")),
        (DONE, LEFT, "tag", FAILURE, ("failed", "")),
        (DONE, ANEW, "tag", FAILURE, ("interrupted", "finetune target")),
        (LEFT, MISSING, "other", None, ("not started", "next: finetune base at 6 of 9 steps")),
        (DONE, MISSING, "tag", None, ("not started", "next: finetune target")),
    ],
)
def test_a_run_is_what_its_own_stages_are(tmp_path, base, target, owner, failure, expected) -> None:
    run = RunArtifacts(
        name="method=npo", tag="tag", artifacts=[BASE, TARGET], store=Store(root=tmp_path, cache="readonly"),
        outputs=tmp_path,
    )  # fmt: skip
    found = run_state(
        run, {BASE.key: base, TARGET.key: target}, owners={BASE.key: owner, TARGET.key: owner},
        names={"tag": "method=npo", "other": "method=kl"}, failure=failure,
    )  # fmt: skip
    assert (found.state, found.detail) == expected
    assert (found.done, found.total) == ((base is DONE) + (target is DONE), 2)
    assert (found.failure is not None) == (found.state == "failed")


def test_runs_that_share_a_stage_are_distinguished_by_its_owner(store: Store, tmp_path: Path) -> None:
    runs = [
        RunArtifacts(name=name, tag=f"{name}-tag", artifacts=made, store=store, outputs=tmp_path)
        for name, made in (("one", [BASE]), ("two", [BASE, TARGET]), ("three", [BASE, artifact("retain", BASE)]))
    ]
    begin(store, BASE, run="two-tag")
    record_failure(tmp_path, "three-tag", UserError("no luck"), private=False)
    lock = store.lock(BASE)
    assert lock is not None
    states = [each.state for each in collect_states(runs, now=NOW)[1]]
    (store.partial(BASE) / "task.json").unlink()  # then it is the first one's, since runs run in their order
    untold = [each.state for each in collect_states(runs, now=NOW)[1]]
    lock.release()
    assert states == ["waiting", "running", "failed"]
    assert untold == ["running", "waiting", "failed"]


def test_counts_are_in_one_order_and_leave_out_what_there_is_none_of() -> None:
    runs = [RunState(name="", state=state, done=0, total=1) for state in ("failed", "done", "waiting", "done")]
    assert counts(runs) == "4 runs: 2 done, 1 waiting, 1 failed"
    assert counts(runs[:1]) == "1 run: 1 failed"
