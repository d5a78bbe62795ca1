"""Runs the task of one stage in this process, in a helper process, or in each process of a distributed job.

``python -m torch.distributed.run --nproc-per-node N -m meow_lightning.pipeline.worker SPEC.json SHA256`` runs a task in
N processes.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meow_lightning.distributed import DRIVER, check, destroy_process_group, rank, release_memory
from meow_lightning.errors import NotFiniteError, UserError
from meow_lightning.stages import stage
from meow_lightning.stages.base import StageContext
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import OTHERS, owner_only
from meow_lightning.store.lock_holders import Holder

POLL_SECONDS = 1.0  # between two attempts to lock the folder of a stage
STOPPED_TIMEOUT = 5.0  # seconds after which a stopped holder of that lock is an error
ORPHAN_TIMEOUT = 60.0  # seconds after which any other holder is an error
MIN_FREE_BYTES = 2**20  # a disk with less free space counts as full
_imported = 0  # number of imported modules at the last gc.freeze()


def exit_with(process: int) -> None:
    """End this process when ``process`` (on this machine) ends, so that no orphan writes into the folder of a stage."""
    child = os.getppid() == process

    def watch() -> None:
        while os.getppid() == process if child else _is_running(process):
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_running(process: int) -> bool:
    """Whether a process other than our parent still runs; a zombie counts as ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def init_helper(parent: int, threads: int) -> None:
    """Set up a helper process: limit its threads, silence libraries, and end it with its parent."""
    exit_with(parent)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    silence_third_party()


def silence_third_party() -> None:
    """Silence library messages that users cannot act on, but not errors."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bar of GGUF files, which transformers cannot switch off
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*srun.*")


def reset_peak_memory() -> None:
    """Start a new measurement of the peak memory, since this process may have run other stages.

    Where the system does not allow it, the peak remains that of the process so far.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if (torch := _cuda()) is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, float]:
    """Measure the peak memory since :func:`reset_peak_memory` in MiB: of this process, and on its GPU if it used one.

    It includes what the process already held then, such as imported libraries.
    """
    import resource

    peak = {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}
    if (torch := _cuda()) is not None:
        peak["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def _cuda() -> Any:
    """Return torch if this process uses a GPU, else ``None``; never imports it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _write_failure(error: Exception, folder: Path) -> str | None:
    """Explain why a stage could not write; ``None`` if the error has another cause.

    Libraries wrap system errors in their own, some without the message, so the free space is checked too.
    """
    code = error.errno if isinstance(error, OSError) else None
    store = folder.parent.parent
    try:
        full = shutil.disk_usage(folder).free < MIN_FREE_BYTES
    except OSError:
        full = False
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error) or full:
        return (
            f"the disk of {store} is full; free some space or choose another with store=FOLDER, and run again to "
            "continue"
        )
    if code in (errno.EACCES, errno.EROFS, errno.EPERM):
        place = getattr(error, "filename", None) or store
        return f"no permission for {place}; correct the permissions and run again to continue"
    return None


def freeze_gc() -> None:
    """Exclude imported modules from garbage collection: traversing torch takes a quarter second.

    Call it only after a stage without error, since an error would keep its tensors alive. It acts only after new
    imports, so that little else is frozen.
    """
    global _imported
    if len(sys.modules) > _imported:
        _imported = len(sys.modules)
        gc.freeze()


@contextmanager
def _exclusive(work: StageContext) -> Iterator[None]:
    """Ensure that no other process writes into the folder of a stage under our rank.

    An orphan of a killed driver may keep writing for a moment; its successor waits until it has ended.

    Raises:
        UserError: The orphan does not end, because it was stopped or hangs.
    """
    lock, owner = FileLock(work.folder / f".work-{rank()}.lock"), work.folder / f".work-{rank()}.owner"
    begun = time.monotonic()
    while True:
        try:
            lock.acquire(timeout=POLL_SECONDS)
            break
        except Timeout as error:
            holder, passed = Holder.read(owner), time.monotonic() - begun
            if passed < (STOPPED_TIMEOUT if holder is not None and holder.stopped else ORPHAN_TIMEOUT):
                continue
            who = "a process" if holder is None else holder.described()
            raise UserError(
                f"{work.stage} {work.label}".strip() + f" cannot start: {who}, left by a killed run, still locks "
                f"{work.folder}" + ("" if holder is None else f"; {holder.remedy()}") + "; then run again"
            ) from error
    try:
        Holder.here().write(owner)
        yield
    finally:
        lock.release()


def run_stage(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Run a stage and return the entries for its manifest: seconds, host, peak memory, warnings and counts.

    Raises:
        UserError: The stage raised one, ran out of GPU memory, or could not write to the disk.
        RuntimeError: An output file of the stage is missing.
    """
    work = StageContext.from_spec(spec)
    own = stage(work.stage)
    start = time.time()
    reset_peak_memory()
    if own.distributed(work.inputs):
        check(work.runtime.accelerator, work.runtime.devices)
    try:
        with owner_only(work.private), _exclusive(work):
            own.run(work)
    except NotFiniteError as error:
        raise UserError(f"{work.stage} {work.label}: {error}") from error
    except UserError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise UserError(
                f"{work.stage} {work.label}".strip()
                + f" ran out of GPU memory; {own.oom_hint}, and run again to continue"
            ) from error
        if (why := _write_failure(error, work.folder)) is not None:
            raise UserError(f"{work.stage} {work.label}".strip() + f" stopped: {why}") from error
        raise
    finally:
        release_memory()  # this process may run more stages
    freeze_gc()
    missing = [name for name in own.outputs if not (work.folder / name).exists()]
    if missing and rank() == 0:
        raise RuntimeError(f"the stage {work.stage} ended without {', '.join(missing)}")
    return {
        "seconds": round(time.time() - start, 2),
        "host": os.uname().nodename,
        "devices": work.runtime.devices,
        **peak_memory(),
        **work.manifest_entries(),
    }


def main(path: str, digest: str) -> int:
    """Run the stage of a task file; returns exit status 0, or 1 after writing the error to ``error-<rank>.json``.

    Args:
        path: The task file.
        digest: SHA-256 of the task file as the driver wrote it. The task names code to run, and other users may be able
            to write into a shared store.
    """
    task = Path(path).read_bytes()
    if hashlib.sha256(task).hexdigest() != digest:
        raise SystemExit(f"{path} differs from what the driver wrote")
    spec = json.loads(task)
    number = rank()
    if spec["inputs"].get("private"):
        os.umask(OTHERS)  # this process runs only this stage
    process, _, host = os.environ[DRIVER].partition("@")
    if host == socket.gethostname():  # on other machines srun ends this process with the driver
        exit_with(int(process))
    silence_third_party()
    try:
        result = run_stage(spec)
        if number == 0:
            write_json(Path(spec["folder"]) / "result.json", result)
        destroy_process_group()
    except BaseException as error:  # noqa: BLE001 - passed on to the driver, which raises it
        kind = "user" if isinstance(error, UserError) else type(error).__name__
        record = {"kind": kind, "message": str(error), "traceback": traceback.format_exc()}
        write_json(Path(spec["folder"]) / f"error-{number}.json", record)
        return 1
    return 0


if __name__ == "__main__":
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All output is on disk. A regular exit would unload libraries whose threads still run, which sometimes aborts.
    os._exit(status)
