from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock
from helpers.stages import module_of

from meow_lightning.config.runtime import Runtime
from meow_lightning.errors import NotFiniteError, UserError
from meow_lightning.pipeline import worker
from meow_lightning.stages.base import StageContext

RUNTIME = Runtime(
    accelerator="cpu", devices=1, nodes=1, strategy="auto", micro_batch_size=2, micro_batch_tokens=None,
    gradient_checkpointing=False, eval_batch_size=2, generation_batch_size=2,
    checkpoint_seconds=1.0, log_every=1, memo_every_epochs=0, memo_every_steps=0, memo_facts=0,
    evaluate_every_epochs=0,
)  # fmt: skip
FULL = "the disk of STORE is full; free some space or choose another with store=FOLDER, and run again to continue"


@pytest.fixture
def task(tmp_path) -> StageContext:
    folder = tmp_path / "store" / "filter" / "abc.partial"
    folder.mkdir(parents=True)
    return StageContext(stage="filter", label="own", folder=folder, settings={}, inputs={}, needs={}, runtime=RUNTIME)


@pytest.fixture
def doing(monkeypatch) -> Callable[..., None]:
    """Puts a stage of the test's own in the place of ``filter``."""

    def put(run, *makes: str) -> None:
        monkeypatch.setitem(sys.modules, "meow_lightning.stages.filter", module_of("filter", run, outputs=makes))

    return put


def raising(error: Exception) -> Callable[[StageContext], None]:
    def run(_: StageContext) -> None:
        raise error

    return run


def told(task: StageContext) -> str:
    with pytest.raises(UserError) as error:
        worker.run_stage(task.to_spec())
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(task.folder.parent.parent), "STORE")


def free(monkeypatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_reported_by_the_system_is_one_line(task, doing, monkeypatch, code):
    free(monkeypatch, 2**40)
    doing(raising(OSError(code, "whatever")))
    assert told(task) == f"filter own stopped: {FULL}"


def test_a_full_disk_reported_by_a_library_is_one_line(task, doing, monkeypatch):
    free(monkeypatch, 2**40)
    doing(raising(RuntimeError("writer failed\nI/O error: No space left on device (os error 28)")))
    assert told(task) == f"filter own stopped: {FULL}"


def test_a_full_disk_without_an_error_is_found_by_a_check(task, doing, monkeypatch):
    doing(raising(RuntimeError("unexpected pos 64 vs 0")))
    free(monkeypatch, 2**20 - 1)
    assert told(task) == f"filter own stopped: {FULL}"
    free(monkeypatch, 2**20)
    with pytest.raises(RuntimeError, match="unexpected pos 64 vs 0"):
        worker.run_stage(task.to_spec())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_no_permission_is_one_line_that_names_the_file(task, doing, monkeypatch, code):
    free(monkeypatch, 2**40)
    doing(raising(OSError(code, "whatever", "/some/file")))
    assert (
        told(task)
        == "filter own stopped: no permission for /some/file; correct the permissions and run again to continue"
    )
    doing(raising(OSError(code, "whatever")))
    assert (
        told(task) == "filter own stopped: no permission for STORE; correct the permissions and run again to continue"
    )


def test_a_work_folder_that_cannot_be_written_is_one_line(task, doing, monkeypatch):
    def closed(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/lock")

    doing(lambda _: pytest.fail("the stage ran without its lock"))
    monkeypatch.setattr(worker.FileLock, "acquire", closed)
    assert (
        told(task) == "filter own stopped: no permission for /lock; correct the permissions and run again to continue"
    )


@pytest.mark.parametrize(
    "error", [ValueError("no such luck"), UserError("mend me"), FileNotFoundError(errno.ENOENT, "gone")]
)
def test_any_other_error_goes_on_its_way(task, doing, monkeypatch, error):
    free(monkeypatch, 2**40)
    doing(raising(error))
    with pytest.raises(type(error)) as kept:
        worker.run_stage(task.to_spec())
    assert kept.value is error


def test_an_unreadable_disk_usage_hides_no_error(task, doing):
    def run(work: StageContext) -> None:
        shutil.rmtree(work.folder)
        raise ValueError("no such luck")

    doing(run)
    with pytest.raises(ValueError, match="no such luck"):
        worker.run_stage(task.to_spec())


def test_the_line_of_an_unnamed_result_has_no_hole(task, doing, monkeypatch):
    task.label = ""
    doing(raising(OSError(errno.ENOSPC, "whatever")))
    assert told(task).startswith("filter stopped: the disk of ")


def test_a_stage_that_makes_too_little_is_reported(task, doing):
    doing(lambda work: (work.folder / "one").write_text(""), "one", "two", "three")
    with pytest.raises(RuntimeError, match=r"^the stage filter ended without two, three$"):
        worker.run_stage(task.to_spec())
    doing(lambda work: None, "one")
    made = worker.run_stage(task.to_spec())
    assert {"seconds", "host", "devices", "peak_memory_mib"} <= set(made)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not reset peaks")
def test_the_peak_memory_is_that_of_the_stage_and_not_of_an_earlier_one(task, doing):
    def large(_: StageContext) -> None:
        np.ones(2**26)  # 512 MiB

    doing(large)
    first = worker.run_stage(task.to_spec())["peak_memory_mib"]
    doing(lambda _: None)
    assert worker.run_stage(task.to_spec())["peak_memory_mib"] < first - 400


def test_a_stage_waits_for_an_orphan_that_still_writes_into_its_folder(task, doing):
    began: list[Path] = []
    doing(lambda work: began.append(work.folder))
    with FileLock(task.folder / ".work-0.lock"):
        thread = threading.Thread(target=worker.run_stage, args=(task.to_spec(),))
        thread.start()
        time.sleep(0.3)
        assert began == []
    thread.join(timeout=10)
    assert began == [task.folder]


HOLD = """
import sys, time
from pathlib import Path
from filelock import FileLock
from meow_lightning.store.lock_holders import Holder
with FileLock(sys.argv[1] + "/.work-0.lock"):
    Holder.here().write(Path(sys.argv[1]) / ".work-0.owner")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [True, False])
def test_an_orphan_that_does_not_go_is_named_with_what_to_do(task, doing, monkeypatch, stopped):
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(worker, "STOPPED_TIMEOUT" if stopped else "ORPHAN_TIMEOUT", 0.5)
    doing(lambda _: pytest.fail("the stage ran without its lock"))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(task.folder)], stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2]
    ) as orphan:
        assert orphan.stdout is not None
        orphan.stdout.readline()
        if stopped:
            os.kill(orphan.pid, signal.SIGSTOP)
        said = told(task)
        orphan.kill()
    start = f"filter own cannot start: process {orphan.pid} on {os.uname().nodename} (user "
    assert said.startswith(start)
    assert "), since 2" in said
    do = "it is stopped: kill -CONT {0} resumes it, kill" if stopped else "if it hangs, kill"
    do += " -KILL {0} hands over to the waiting run; then run again"
    assert said.endswith(f", left by a killed run, still locks STORE/filter/abc.partial; {do.format(orphan.pid)}")


def test_each_process_of_a_job_has_a_lock_of_its_own(task, doing, monkeypatch):
    monkeypatch.setenv("MEOW_DRIVER", "1")
    monkeypatch.setenv("RANK", "1")
    began: list[Path] = []
    doing(lambda work: began.append(work.folder))
    with FileLock(task.folder / ".work-0.lock"):
        worker.run_stage(task.to_spec())
    assert began == [task.folder]


class Ring:
    """Something that only the garbage collector finds: it holds itself."""

    def __init__(self) -> None:
        self.me = self


def test_imported_modules_are_not_collected_again_and_garbage_of_a_stage_still_is(task, doing, monkeypatch):
    left: list[weakref.ref[Ring]] = []
    monkeypatch.setattr(worker, "_imported", 0)
    gc.unfreeze()
    try:
        doing(lambda work: None)
        worker.run_stage(task.to_spec())
        still = gc.get_freeze_count()
        assert still > 1000
        doing(lambda work: left.append(weakref.ref(Ring())))
        worker.run_stage(task.to_spec())
        assert left[0]() is None
        assert gc.get_freeze_count() <= still  # nothing was imported, so nothing more stays for good
        monkeypatch.setitem(sys.modules, "new_here", ModuleType("new_here"))
        worker.run_stage(task.to_spec())
        assert gc.get_freeze_count() > still
    finally:
        gc.unfreeze()


def test_an_error_keeps_nothing_for_good(task, doing, monkeypatch):
    monkeypatch.setattr(worker, "_imported", 0)
    gc.unfreeze()
    doing(raising(ValueError("no such luck")))
    with pytest.raises(ValueError, match="no such luck"):
        worker.run_stage(task.to_spec())
    assert gc.get_freeze_count() == 0


def test_a_task_that_is_not_what_the_driver_wrote_is_not_run(task: StageContext, doing: Callable[..., None]) -> None:
    ran: list[StageContext] = []
    doing(ran.append)
    path = task.folder / "spec.json"
    path.write_text(json.dumps(task.to_spec() | {"inputs": {"allow": ["os"]}}))
    digest = hashlib.sha256(json.dumps(task.to_spec()).encode()).hexdigest()
    with pytest.raises(SystemExit, match=r"spec\.json differs from what the driver wrote$"):
        worker.main(str(path), digest)
    assert ran == []


@pytest.mark.parametrize("private", [True, False])
def test_stage_files_with_private_data_are_readable_by_their_owner_only(
    task: StageContext, doing: Callable[..., None], private: bool
) -> None:
    doing(lambda work: (work.folder / "rows.jsonl").write_text("x"))
    mask = os.umask(0o022)
    try:
        worker.run_stage(task.to_spec() | {"inputs": {"private": private}})
        (task.folder / "after").touch()
    finally:
        os.umask(mask)
    modes = [stat.S_IMODE((task.folder / name).stat().st_mode) for name in ("rows.jsonl", "after")]
    assert modes == [0o600 if private else 0o644, 0o644]


def test_a_model_that_gives_no_numbers_is_named_by_its_stage(task, doing):
    doing(raising(NotFiniteError("no numbers")))
    assert told(task) == "filter own: no numbers"


def test_an_error_while_the_processes_part_is_recorded_too(task, doing, monkeypatch) -> None:
    def apart() -> None:
        raise RuntimeError("connection closed by peer")

    doing(lambda work: None)
    for name in ("exit_with", "silence_third_party"):
        monkeypatch.setattr(worker, name, lambda *_: None)
    monkeypatch.setattr(worker, "destroy_process_group", apart)
    monkeypatch.setenv(worker.DRIVER, f"{os.getpid()}@here")
    content = json.dumps(task.to_spec()).encode()
    path = task.folder / "spec.json"
    path.write_bytes(content)
    assert worker.main(str(path), hashlib.sha256(content).hexdigest()) == 1
    record = json.loads((task.folder / "error-0.json").read_text())
    assert (record["kind"], record["message"]) == ("RuntimeError", "connection closed by peer")
    assert "in apart" in record["traceback"]
