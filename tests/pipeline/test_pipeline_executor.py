from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock
from helpers.stages import module_of

from meow_lightning.config import runtime
from meow_lightning.errors import UserError
from meow_lightning.pipeline import executor, waiting
from meow_lightning.pipeline.executor import Executor, source_commit
from meow_lightning.pipeline.runners import Pool, StageError
from meow_lightning.pipeline.source_code import MEMORY
from meow_lightning.pipeline.waiting import read_progress
from meow_lightning.stages import base as stage_work
from meow_lightning.store import store as store_module
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.store import Store

RUNTIME = runtime.Runtime(
    accelerator="cpu", devices=1, nodes=1, strategy="auto", micro_batch_size=2, micro_batch_tokens=None,
    gradient_checkpointing=False, eval_batch_size=2, generation_batch_size=2,
    checkpoint_seconds=1.0, log_every=1, memo_every_epochs=0, memo_every_steps=0, memo_facts=0,
    evaluate_every_epochs=0,
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from meow_lightning.store.store import Artifact, Store
a = Artifact(stage="filter", label="shared", version=1, settings={"name": "one"}, needs={}, inputs={})
lock = Store(root=Path(sys.argv[1]), cache="use").lock(a)
print("held", flush=True)
time.sleep(60)
"""


class Watch:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notices: list[str] = []

    def running(self, artifacts) -> None:
        pass

    def finished(self, artifact, manifest, folder, *, computed) -> None:
        assert manifest["key"] == artifact.key
        assert (folder / MANIFEST).exists()
        self.lines.append(f"{artifact.settings['name']} {'computed' if computed else 'cached'}")

    def waiting(self, artifact, owner) -> None:
        self.lines.append(f"{artifact.settings['name']} waits for {owner}")

    def notice(self, text) -> None:
        self.notices.append(text)


@pytest.fixture
def ran(monkeypatch):
    """A stage of its own under the name ``filter``: it notes whom it ran for, and breaks where the settings say so."""
    calls: list[str] = []

    def run(work) -> None:
        calls.append(work.settings["name"])
        (work.folder / "result.txt").write_text(
            "".join((p / "result.txt").read_text() for p in work.needs.values()) + "x"
        )
        if "user" in work.settings:
            raise UserError(work.settings["user"])
        if "broken" in work.settings:
            raise ValueError(work.settings["broken"])

    monkeypatch.setitem(sys.modules, "meow_lightning.stages.filter", module_of("filter", run))
    return calls


def artifact(name: str, *needs: Artifact, **settings) -> Artifact:
    return Artifact(
        stage="filter", label="shared", version=1, settings={"name": name, **settings},
        needs={str(i): need for i, need in enumerate(needs)}, inputs={},
    )  # fmt: skip


def new_executor(root: Path, *, cache="use") -> tuple[Executor, Watch]:
    watch = Watch()
    store = Store(root=root / "store", cache=cache)
    return Executor(store=store, runtime=RUNTIME, parallel_stages=1, threads=1, watchers=[watch]), watch


def chain() -> list[Artifact]:
    one = artifact("one")
    two, three = artifact("two", one), artifact("three", one)
    return [one, two, three, artifact("four", two, three)]


def test_a_private_result_that_was_left_open_to_all_is_closed_when_it_is_found(tmp_path, ran):
    private = replace(artifact("one"), inputs={"private": True})
    public = artifact("two")
    mask = os.umask(0o022)
    try:
        new_executor(tmp_path)[0].make([artifact("one"), public])  # as versions did that knew no privacy
        own, _ = new_executor(tmp_path)
        own.make([private, public])
    finally:
        os.umask(mask)
    for result, rights in ((public, (0o755, 0o644)), (private, (0o700, 0o600))):
        folder = own.store.path(result)
        assert (folder.stat().st_mode & 0o777, (folder / "result.txt").stat().st_mode & 0o777) == rights
    assert ran == ["one", "two"]


def test_each_is_made_once_after_what_it_needs_and_found_the_second_time(tmp_path, ran):
    first, watch = new_executor(tmp_path)
    first.make(chain())
    assert ran == ["one", "two", "three", "four"]
    assert watch.lines == ["one computed", "two computed", "three computed", "four computed"]
    assert (first.store.path(chain()[3]) / "result.txt").read_text() == "xx" + "xx" + "x"
    second, watch = new_executor(tmp_path)
    second.make(chain())
    assert len(ran) == 4
    assert watch.lines == ["one cached", "two cached", "three cached", "four cached"]


def test_scratch_is_not_part_of_a_result_and_the_manifest_says_what_made_it(tmp_path, ran):
    one, _ = new_executor(tmp_path)
    made = replace(artifact("one"), components={"Rules": 1})
    one.make([made])
    folder = one.store.path(made)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "result.txt"]
    manifest = one.store.find(made)
    assert manifest is not None
    assert {"seconds", "host", "devices", "peak_memory_mib", "python", "packages", "commit"} <= set(manifest)
    assert manifest["components"] == {"Rules": 1}
    assert re.fullmatch(r"[0-9a-f]{16}", manifest["code"])


def test_the_code_digest_is_computed_before_a_stage_runs_and_cached(tmp_path, ran, monkeypatch):
    monkeypatch.setattr(executor, "code_digest", lambda artifact, store: f"after {len(ran)} stages")
    one, _ = new_executor(tmp_path)
    one.make(chain()[:2])
    codes = [manifest["code"] for each in chain()[:2] if (manifest := one.store.find(each)) is not None]
    assert codes == ["after 0 stages", "after 1 stages"]


def test_the_store_remembers_what_files_come_to(tmp_path, ran):
    one, _ = new_executor(tmp_path)
    one.make([artifact("one")])
    assert (one.store.root / MEMORY).exists()


def test_damaged_inputs_are_recomputed_but_not_later_results(tmp_path, ran):
    first, _ = new_executor(tmp_path)
    first.make(chain())
    (first.store.path(chain()[0]) / "result.txt").unlink()
    second, watch = new_executor(tmp_path)
    second.make(chain())
    assert ran[4:] == ["one"]
    assert watch.lines == ["one computed", "two cached", "three cached", "four cached"]


def test_the_status_names_the_owner_of_a_stage(tmp_path, ran, monkeypatch):
    one, _ = new_executor(tmp_path)
    one.run_tag = "mine-812403"
    tasks = []

    class Noting(Watch):
        def running(self, artifacts) -> None:
            tasks.extend(json.loads((folder / "task.json").read_text()) for _, folder in artifacts.values())

    one.watchers = [Noting()]
    one.make([artifact("one")])
    assert {(task["stage"], task["label"], task["run"]) for task in tasks} == {("filter", "shared", "mine-812403")}


def test_a_failure_keeps_the_others_results_and_its_partial_work_and_frees_its_lock(tmp_path, ran):
    one, bad = artifact("one"), artifact("bad", artifact("one"), broken="no such luck")
    first, _ = new_executor(tmp_path)
    with pytest.raises(ValueError, match=r"no such luck") as kept:
        first.make([one, bad, artifact("after", bad)])
    assert ran == ["one", "bad"]
    assert first.store.find(one) is not None
    assert first.store.find(bad) is None
    assert (first.store.partial(bad) / "result.txt").exists()
    # The error is still held, as a sweep holds it; the lock may not be.
    lock = first.store.lock(bad)
    assert lock is not None, kept
    lock.release()


def test_the_next_run_of_a_sweep_does_not_wait_for_a_failed_one(tmp_path, ran):
    errors = []
    shared, _ = new_executor(tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^mend me$") as failed:
            shared.make([artifact("bad", user="mend me")])
        errors.append(failed)
    assert ran == ["bad", "bad"]


def test_readonly_lists_missing_results_and_computes_nothing(tmp_path, ran):
    first, _ = new_executor(tmp_path)
    first.make(chain()[:1])
    second, watch = new_executor(tmp_path, cache="readonly")
    with pytest.raises(
        UserError,
        match=r"cache=readonly computes nothing, but these results are missing: filter shared, filter shared",
    ):
        second.make(chain()[:3])
    assert ran == ["one"]
    assert watch.lines == ["one cached"]
    second.make(chain()[:1])


def test_waits_for_another_process_and_goes_on_when_that_one_is_gone(tmp_path, ran):
    own, watch = new_executor(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(own.store.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()

        def kill() -> None:
            deadline = time.time() + 20
            while not watch.lines and time.time() < deadline:
                time.sleep(0.01)
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()

        killer = threading.Thread(target=kill)
        killer.start()
        own.make([artifact("one"), artifact("apart")])
        killer.join()
    finally:
        holder.kill()
        holder.wait()
    waits = f"one waits for {holder.pid}@{os.uname().nodename}"
    assert watch.lines[0] == waits
    assert sorted(watch.lines) == sorted([waits, "apart computed", "one computed"])  # what is free goes on meanwhile
    assert sorted(ran) == ["apart", "one"]


def test_a_stopped_process_that_holds_a_lock_is_named_with_what_to_do(tmp_path, ran, monkeypatch):
    monkeypatch.setattr(waiting, "NOTIFY_AFTER", (0.3, 60.0))
    own, watch = new_executor(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(own.store.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        os.kill(holder.pid, signal.SIGSTOP)

        def kill() -> None:
            deadline = time.time() + 20
            while not watch.notices and time.time() < deadline:
                time.sleep(0.01)
            os.kill(holder.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        own.make([artifact("one")])
        killer.join()
    (said,) = watch.notices
    since = r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(
        rf"filter shared: waiting for \d+ m?s for process {holder.pid} on {os.uname().nodename} \(user \S+\), {since}; "
        rf"it is stopped: kill -CONT {holder.pid} resumes it, kill -KILL {holder.pid} hands over to the waiting run",
        said,
    ), said
    assert watch.lines[-1] == "one computed"


def test_a_damaged_result_is_reported_and_made_anew_but_not_where_nothing_may_be_made(tmp_path, ran):
    first, _ = new_executor(tmp_path)
    first.make(chain()[:1])
    path = first.store.path(chain()[0]) / "result.txt"
    path.write_text("y")
    why = f"filter shared (the stored result {chain()[0].key} is damaged: result.txt differs from what was sealed)"
    readonly, _ = new_executor(tmp_path, cache="readonly")
    with pytest.raises(
        UserError,
        match=rf"^cache=readonly computes nothing, but these results are missing: {re.escape(why)}; set cache=use",
    ):
        readonly.make(chain()[:1])
    second, watch = new_executor(tmp_path)
    second.make(chain()[:1])
    assert watch.notices == [f"{why}; it is set aside and computed again"]
    assert path.read_text() == "x"


def test_asks_the_less_often_for_a_lock_the_longer_another_process_holds_it(tmp_path, ran, monkeypatch):
    own, watch = new_executor(tmp_path)
    clock, asked = [0.0], []

    def lock(wanted):
        asked.append(clock[0])
        return FileLock(tmp_path / "lock") if clock[0] >= 30 else None

    monkeypatch.setattr(own.store, "lock", lock)
    monkeypatch.setattr(executor.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(executor.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    own.make([artifact("one")])
    assert watch.lines == ["one waits for another process", "one computed"]
    between = [later - sooner for sooner, later in pairwise(asked)]
    assert max(between[:5]) < 0.11  # what takes no time is waited for no time
    assert 1.0 <= between[-1] <= 1.06
    assert 30 <= asked[-1] < 31.06
    assert len(asked) < 70
    assert len(watch.notices) == 1  # after five seconds; the next comes after sixty


def test_takes_what_another_process_finished_meanwhile(tmp_path, ran, monkeypatch):
    own, watch = new_executor(tmp_path)
    other, _ = new_executor(tmp_path)
    find, looks = own.store.find, []

    def late(wanted):
        looks.append(wanted)
        if len(looks) == 1:
            other.make([artifact("one")])
            return None
        return find(wanted)

    monkeypatch.setattr(own.store, "find", late)
    own.make([artifact("one")])
    assert ran == ["one"]
    assert watch.lines == ["one cached"]
    assert own.store.lock(artifact("one")) is not None


class Ended:
    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def done(self) -> bool:
        return True

    def result(self) -> dict:
        if self.error is not None:
            raise self.error
        return {"seconds": 1.0}


class Side:
    """A runner that ends all at once what was started side by side, the one named ``bad`` with an error."""

    slots = 3

    def __init__(self) -> None:
        self.closed = 0

    def start(self, spec) -> Ended:
        return Ended(StageError("killed") if spec["settings"]["name"] == "bad" else None)

    def close(self) -> None:
        self.closed += 1


def test_results_finished_beside_a_failure_are_kept_and_broken_helpers_are_released(tmp_path):
    own, watch = new_executor(tmp_path)
    own._runners["inline"] = runner = Side()
    with pytest.raises(StageError, match=r"killed"):
        own.make([artifact("one"), artifact("bad"), artifact("two")])
    assert sorted(watch.lines) == ["one computed", "two computed"]
    assert own.store.find(artifact("two")) is not None
    assert runner.closed == 1
    assert own._runners == {}
    assert own.store.lock(artifact("bad")) is not None


def at_work(pool, folder):
    """A task, and the process of the pool's only helper, which is there and idle."""
    work = stage_work.StageContext(
        stage="filter", label="", folder=folder, settings={}, inputs={}, needs={}, runtime=RUNTIME
    )
    with pytest.raises(ModuleNotFoundError):  # no such stage: the first task only shows that a helper is there
        pool.start({**work.to_spec(), "stage": "evaluate_not"}).result()
    (helper,) = pool._pool._processes.values()
    return work, helper


def test_a_helper_killed_from_outside_is_reported_as_such(tmp_path):
    pool = Pool(parallel_stages=1, threads=1)
    try:
        work, helper = at_work(pool, tmp_path)
        os.kill(helper.pid, signal.SIGSTOP)
        handle = pool.start(work.to_spec())
        os.kill(helper.pid, signal.SIGKILL)
        with pytest.raises(StageError, match=r"the process that ran filter was killed from outside"):
            handle.result()
        assert handle.done()
    finally:
        pool.close()


def test_a_pool_whose_helper_was_killed_while_idle_takes_no_task_and_says_why(tmp_path):
    pool = Pool(parallel_stages=1, threads=1)
    try:
        work, helper = at_work(pool, tmp_path)
        os.kill(helper.pid, signal.SIGKILL)
        deadline = time.time() + 10
        while not pool._pool._broken and time.time() < deadline:
            time.sleep(0.01)
        text = r"^a helper process for filter was killed from outside \(out of memory\?\); run the same "
        with pytest.raises(StageError, match=text):
            pool.start(work.to_spec())
    finally:
        pool.close()


class Broken(Side):
    """A pool that takes the first task and is broken when the second comes."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[str] = []

    def start(self, spec) -> Ended:
        self.started.append(spec["settings"]["name"])
        if len(self.started) > 1:
            raise StageError("killed from outside")
        return Ended(None)


def test_a_broken_pool_is_given_back_with_its_locks_and_the_next_run_gets_a_new_one(tmp_path, ran):
    own, watch = new_executor(tmp_path)
    own._runners["inline"] = broken = Broken()
    with pytest.raises(StageError, match=r"^killed from outside$"):
        own.make([artifact("one"), artifact("two"), artifact("three")])
    assert (broken.started, broken.closed, own._runners) == (["one", "two"], 1, {})
    own.make([artifact("one"), artifact("two"), artifact("three")])
    assert sorted(ran) == ["one", "three", "two"]
    assert sorted(watch.lines) == ["one computed", "three computed", "two computed"]


def test_progress_of_a_stage_without_a_whole_line(tmp_path):
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"done": 1')
    assert read_progress(tmp_path) is None
    state = {"done": 1, "total": 2, "unit": "steps", "time": 5.0, "rate": None}
    (tmp_path / "progress.json").write_text(json.dumps(state))
    assert read_progress(tmp_path) == state


@pytest.mark.parametrize("place", ["sync_to_disk", "write_json"])
def test_a_disk_that_is_full_when_a_result_is_sealed_costs_the_seal_alone(tmp_path, ran, monkeypatch, place):
    own, watch = new_executor(tmp_path)
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "store"))

        patch.setattr(store_module, place, full)
        with pytest.raises(OSError, match="No space left"):
            own.make([artifact("one")])
    assert own.store.find(artifact("one")) is None
    own.make([artifact("one")])
    assert watch.lines[-1] == "one computed"


def test_a_stage_in_this_process_is_shown_while_it_runs(tmp_path, ran, monkeypatch):
    """``trainer.parallel_stages=1``: the thread that would look is the one at work."""
    monkeypatch.setattr(executor, "REPORT_SECONDS", 0.01)
    looks = []

    class Looking(Watch):
        def running(self, artifacts) -> None:
            looks.append([each.settings["name"] for each, _ in artifacts.values()])

    def run(work) -> None:
        before, deadline = len(looks), time.time() + 10
        while len(looks) < before + 3 and time.time() < deadline:
            time.sleep(0.01)
        assert len(looks) >= before + 3, "nobody looks while it runs"

    monkeypatch.setitem(sys.modules, "meow_lightning.stages.filter", module_of("filter", run))
    own, _ = new_executor(tmp_path)
    own.watchers = [Looking()]
    own.make([artifact("one")])
    assert ["one"] in looks[2:]


def test_errors_during_reporting_are_reported(tmp_path, ran, monkeypatch):
    monkeypatch.setattr(executor, "REPORT_SECONDS", 0.01)

    class Failing(Watch):
        def running(self, artifacts) -> None:
            if threading.current_thread() is not threading.main_thread():
                raise ValueError("the tracker is gone")

    slow = module_of("filter", lambda work: time.sleep(0.2))
    monkeypatch.setitem(sys.modules, "meow_lightning.stages.filter", slow)
    own, _ = new_executor(tmp_path)
    own.watchers = [Failing()]
    with pytest.raises(ValueError, match=r"^the tracker is gone$"):
        own.make([artifact("one")])


def test_the_commit_is_that_of_the_repository_which_tracks_the_code(tmp_path):
    """Site-packages inside the repository of some other project is the usual place of an installed package."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    installed = tmp_path / "venv" / "executor.py"
    installed.parent.mkdir()
    installed.write_text("")
    assert source_commit(installed) == {"commit": None, "dirty": None}
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=other"], check=True)
    assert source_commit(installed) == {"commit": None, "dirty": None}
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=own"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert source_commit(installed) == {"commit": head, "dirty": False}
    installed.write_text("changed")
    assert source_commit(installed) == {"commit": head, "dirty": True}
