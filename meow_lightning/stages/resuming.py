"""What a killed training left behind for its successor: used if all of it can be read, else dropped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from meow_lightning.parallel import barrier, rank
from meow_lightning.stages.work import Work, read_json


def drop_damaged(work: Work) -> None:
    """Remove ``resume/`` where any file in it cannot be read, and note it: the training then begins anew.

    All or nothing, since the files depend on each other: without the best epoch so far, for example, the epochs before
    the checkpoint would never be compared again.
    """
    folder = work.folder / "resume"
    if rank() == 0 and (found := damage(folder)) is not None:
        shutil.rmtree(folder)
        work.note(f"the checkpoint of an interrupted run cannot be used ({found}); training began anew")
    barrier(work.runtime.accelerator)


def damage(folder: Path) -> str | None:
    """Which file of a ``resume/`` folder cannot be used, and why; ``None`` where all can."""
    for pattern, check in _CHECKS.items():
        for path in sorted(folder.glob(pattern)):
            try:
                check(path)
            except Exception as error:  # noqa: BLE001 - whatever the reason: what cannot be read is dropped
                return f"{path.name}: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return None


def _checkpoint(path: Path) -> None:
    from meow_lightning.training import check_checkpoint

    check_checkpoint(path)


def _best(path: Path) -> None:
    from safetensors import safe_open

    from meow_lightning.callbacks.evaluation import Best

    best = Best(path.parent)
    if (chosen := best.epoch()) is not None:
        safe_open(best.weights(chosen), framework="pt").keys()


def _reference(path: Path) -> None:
    if not all(isinstance(logp, float) for logp in read_json(path)):
        raise ValueError("it holds something else than numbers")


_CHECKS: dict[str, Callable[[Path], None]] = {
    "last.ckpt": _checkpoint, "best.json": _best, "reference-*.json": _reference,
}  # fmt: skip
