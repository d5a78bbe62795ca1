"""Checkpoints at fixed time intervals."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class TimedCheckpoint(pl.Callback):
    """Writes a checkpoint at fixed time intervals, but not after the last step.

    Lightning's ``ModelCheckpoint(train_time_interval=...)`` writes nothing under manual optimization (2.6.6).

    Args:
        path: The file; replaced atomically.
        seconds: Seconds between checkpoints; 0 for one after every step.
    """

    def __init__(self, *, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._saved = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """Save if it is time; the first process's clock decides for all."""
        # After the last step the caller saves the model; resuming from there would have no steps left.
        if trainer.global_step >= trainer.max_steps or trainer.should_stop:
            return
        if not trainer.strategy.broadcast(time.monotonic() - self._saved >= self.seconds):
            return
        fresh = self.path.with_suffix(".new")
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            with fresh.open("rb") as file:
                os.fsync(file.fileno())  # otherwise a power failure may leave an empty file
            fresh.replace(self.path)
        self._saved = time.monotonic()
