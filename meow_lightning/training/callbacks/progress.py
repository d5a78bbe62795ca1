"""How far a training is."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from meow_lightning.types import Progress


class ProgressReporter(pl.Callback):
    """Reports the steps done after every one.

    Args:
        progress: Told steps done, steps in all, and the unit.
    """

    def __init__(self, *, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """Report."""
        self.progress(trainer.global_step, int(trainer.max_steps), "steps")
