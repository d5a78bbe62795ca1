"""The checkpoint that a killed training left behind for its successor: used if it can be read, else dropped."""

from __future__ import annotations

import shutil

from meow_lightning.distributed import barrier, rank
from meow_lightning.stages.base import StageContext


def drop_damaged(work: StageContext) -> None:
    """Remove ``resume/`` where its checkpoint cannot be read, and note it: the training then begins anew.

    All or nothing: the best epoch so far and curves belong to the steps that the checkpoint has seen. Damage of the
    other files is found by those who read them.
    """
    from meow_lightning.training.fit import CheckpointError, check_checkpoint

    path = work.folder / "resume" / "last.ckpt"
    if rank() == 0 and path.exists():
        try:
            check_checkpoint(path)
        except (CheckpointError, OSError) as error:
            shutil.rmtree(path.parent)
            why = (str(error).splitlines() or [type(error).__name__])[0]
            work.warn(f"the checkpoint of an interrupted run cannot be used ({path.name}: {why}); training began anew")
    barrier(work.runtime.accelerator)
