"""Runs one stage from its task: in this process, in a helper process, or in each process of a distributed job.

``python -m torch.distributed.run --nproc-per-node N -m meow_lightning.pipeline.worker SPEC.json SHA256`` runs it in N
processes.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import logging
import os
import shutil
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meow_lightning.distributed import DRIVER, check, destroy_process_group, rank, release_memory
from meow_lightning.errors import UserError
from meow_lightning.stages import distributed, stage
from meow_lightning.stages.base import StageContext
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import OTHERS, owner_only
from meow_lightning.store.lock_holders import Holder
from meow_lightning.types import NotFiniteError

LESS = {  # memory, by stage
    **dict.fromkeys(
        ("finetune", "unlearn"),
        "say trainer.micro_batch (or trainer.micro_tokens, where it is given) smaller or trainer.checkpointing=true",
    ),
    "predict": "say trainer.eval_batch smaller or evaluation.gradient_norm=false",
}
SMALLER = "a single prompt did not fit: take a GPU with more memory, or trainer=cpu"
LOOK = 1.0  # seconds between two looks at who keeps a stage from beginning
STOPPED = 5.0  # seconds after which a stopped one of these is an error
ORPHAN = 60.0  # seconds after which any other is
FULL = 2**20  # bytes left on a disk that is as good as full
_imported = 0  # modules when the garbage collector was last told to leave them alone


def follow(process: int) -> None:
    """End this process as soon as ``process`` (on this machine) is gone: no orphan may write into a stage's folder."""
    child = os.getppid() == process

    def watch() -> None:
        while os.getppid() == process if child else _runs(process):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _runs(process: int) -> bool:
    """Whether a process that is not our parent still runs; a dead one that nobody has waited for does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def prepare(parent: int, threads: int) -> None:
    """Set up a helper process: quiet, with its share of threads, gone when its parent goes."""
    follow(parent)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    silence_third_party()


def silence_third_party() -> None:
    """Silence what libraries say that no user can act on; errors stay."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*srun.*")


def peak_memory() -> dict[str, float]:
    """Peak memory of this process so far in MiB, that of its GPU too where it used one."""
    import resource

    peak = {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _unwritten(error: Exception, folder: Path) -> str | None:
    """Why a stage could not write, for people; ``None`` when that is not what went wrong.

    Libraries wrap what the system says in errors of their own, some without its words: hence the look at the disk.
    """
    code = error.errno if isinstance(error, OSError) else None
    store = folder.parent.parent
    try:
        full = shutil.disk_usage(folder).free < FULL
    except OSError:
        full = False
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error) or full:
        return (
            f"the disk of {store} is full; free some space or choose another with store=FOLDER, and run again to go on"
        )
    if code in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"no permission for {getattr(error, 'filename', None) or store}; mend it and run again to go on"
    return None


def freeze_gc() -> None:
    """Take what was imported out of the sight of the garbage collector: looking through torch takes a quarter second.

    Only where modules have come, so that little else stays for good, and only after a stage that ended well: an error
    would hold its tensors.
    """
    global _imported
    if len(sys.modules) > _imported:
        _imported = len(sys.modules)
        gc.freeze()


@contextmanager
def _alone(work: StageContext) -> Iterator[None]:
    """A context in which nobody else writes into a stage's folder under our rank.

    An orphan of a killed driver lives for a moment and still writes; its successor waits until it is gone.

    Raises:
        UserError: It does not go: it was stopped, or hangs.
    """
    lock, owner = FileLock(work.folder / f".work-{rank()}.lock"), work.folder / f".work-{rank()}.owner"
    begun = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=LOOK)
            break
        except Timeout as error:
            holder, passed = Holder.read(owner), time.monotonic() - begun
            if passed < (STOPPED if holder is not None and holder.stopped else ORPHAN):
                continue
            who = "a process" if holder is None else holder.described()
            raise UserError(
                f"{work.stage} {work.label}".strip() + f" cannot begin: {who}, of a run that was killed, still holds "
                f"{work.folder}" + ("" if holder is None else f"; {holder.remedy()}") + "; then run again"
            ) from error
    try:
        Holder.here().write(owner)
        yield
    finally:
        lock.release()


def run_stage(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says of the making: seconds, host and peak memory, after running the stage to its end."""
    work = StageContext.from_spec(spec)
    start = time.time()
    if distributed(work.stage, work.inputs):
        check(work.runtime.accelerator, work.runtime.devices)
    try:
        with owner_only(work.private), _alone(work):
            stage(work.stage).run(work)
    except NotFiniteError as error:
        raise UserError(f"{work.stage} {work.label}: {error}") from error
    except UserError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise UserError(
                f"{work.stage} {work.label}".strip()
                + f" ran out of GPU memory; {LESS.get(work.stage, SMALLER)}, and run "
                "again to go on"
            ) from error
        if (why := _unwritten(error, work.folder)) is not None:
            raise UserError(f"{work.stage} {work.label}".strip() + f" stopped: {why}") from error
        raise
    finally:
        release_memory()  # this process may live on
    freeze_gc()
    lacking = [name for name in stage(work.stage).MAKES if not (work.folder / name).exists()]
    if lacking and rank() == 0:
        raise RuntimeError(f"the stage {work.stage} ended without {', '.join(lacking)}")
    return {
        "seconds": round(time.time() - start, 2),
        "host": os.uname().nodename,
        "devices": work.runtime.devices,
        **peak_memory(),
        **work.manifest_entries(),
    }


def main(path: str, digest: str) -> int:
    """Exit status 0 when the stage was made; else 1, with the reason in ``error-<rank>.json`` in its folder.

    Args:
        path: The task's file.
        digest: SHA-256 of what the driver wrote into it. The task names code to run, and others may be able to write
            into a shared store.
    """
    task = Path(path).read_bytes()
    if hashlib.sha256(task).hexdigest() != digest:
        raise SystemExit(f"{path} is not what the driver wrote into it")
    spec = json.loads(task)
    number = rank()
    if spec["inputs"].get("private"):
        os.umask(OTHERS)  # this process serves this stage alone
    process, _, host = os.environ[DRIVER].partition("@")
    if host == socket.gethostname():  # elsewhere srun ends us when the driver goes
        follow(int(process))
    silence_third_party()
    try:
        made = run_stage(spec)
    except BaseException as error:  # noqa: BLE001 - handed on to the driver, which raises it
        kind = "user" if isinstance(error, UserError) else type(error).__name__
        told = {"kind": kind, "message": str(error), "traceback": traceback.format_exc()}
        write_json(Path(spec["folder"]) / f"error-{number}.json", told)
        return 1
    if number == 0:
        write_json(Path(spec["folder"]) / "made.json", made)
    destroy_process_group()
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All is on disk. A regular exit would take down libraries whose threads still run, and abort now and then for it.
    os._exit(status)
