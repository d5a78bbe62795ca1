"""Check of the checkpoint that a killed training left: it is resumed if readable, else dropped."""

from __future__ import annotations

import shutil

from meow_lightning.distributed import barrier, rank
from meow_lightning.stages.base import StageContext


def drop_damaged(work: StageContext) -> None:
    """Remove ``resume/`` if its checkpoint cannot be read, and warn: training then starts again.

    The whole folder is removed because the best epoch so far and the curves belong to the steps of the checkpoint. Code
    that reads the other files checks them itself.
    """
    from meow_lightning.training.fit import CheckpointError, check_checkpoint

    path = work.folder / "resume" / "last.ckpt"
    if rank() == 0 and path.exists():
        try:
            check_checkpoint(path)
        except (CheckpointError, OSError) as error:
            shutil.rmtree(path.parent)
            why = (str(error).splitlines() or [type(error).__name__])[0]
            work.warn(
                f"the checkpoint of an interrupted run cannot be used ({path.name}: {why}); training was restarted"
            )
    barrier(work.runtime.accelerator)
