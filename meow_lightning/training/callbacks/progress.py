"""Progress of a training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from meow_lightning.types import Progress


class ProgressReporter(pl.Callback):
    """Reports progress after every step.

    Args:
        progress: Called with the steps done, the total and the unit.
    """

    def __init__(self, *, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """Report the current step."""
        self.progress(trainer.global_step, int(trainer.max_steps), "steps")
