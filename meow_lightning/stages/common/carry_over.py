"""Carry over the result of an earlier round instead of computing it again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from meow_lightning.distributed import barrier, rank
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.results.model import SAME, is_carried_over
from meow_lightning.store.durable import write_json
from meow_lightning.store.integrity import MANIFEST


def carry_over(work: StageContext) -> None:
    """Link or copy the previous round's model with all files of its training, and mark it as carried over."""
    previous = work.needs["previous"]
    if rank() == 0:
        for path in sorted(
            each for each in previous.rglob("*") if each.is_file() and each.name not in (MANIFEST, SAME)
        ):
            target = work.folder / path.relative_to(previous)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            try:
                target.hardlink_to(path)
            except OSError:  # another disk, no support for links, or another user's file
                shutil.copy2(path, target)
        write_json(work.folder / SAME, {"as": previous.name})
    barrier(work.runtime.accelerator)


def can_carry_over(work: StageContext, names: Sequence[str]) -> bool:
    """Copy the previous round's files if its model was carried over; returns whether it was."""
    if "previous" not in work.needs or not is_carried_over(work.needs["model"]):
        return False
    if rank() == 0:
        for name in names:
            shutil.copy2(work.needs["previous"] / name, work.folder / name)
    barrier(work.runtime.accelerator)
    return True
