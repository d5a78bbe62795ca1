"""A curve of what the model in training says: before the first step, every so many steps, and after the last one."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch


class PeriodicProbe(pl.Callback):
    """Asks the model in training now and then, and logs what comes of it and the seconds it took.

    It draws no random number and leaves weights and mode as they are, so training comes out the same without it.

    Args:
        name: First part of the names of what is logged.
        every: Steps between two points, 1 or more.
    """

    def __init__(self, *, name: str, every: int) -> None:
        self.name, self.every = name, every

    def values(self, model: torch.nn.Module, trainer: pl.Trainer) -> dict[str, float]:
        """What is logged at this point, by what stands behind the first part of its name; all processes ask.

        Args:
            model: The whole model, in evaluation mode.
            trainer: How far the training is.
        """
        raise NotImplementedError

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The point before the first step."""
        if trainer.global_step == 0:
            self._point(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """A point after every ``every`` steps and after the last one."""
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            self._point(trainer, module)

    def _point(self, trainer: pl.Trainer, module: Any) -> None:
        start = time.perf_counter()
        with module.whole() as model:
            was_training = model.training
            model.eval()
            values = self.values(model, trainer)
            model.train(was_training)
        if trainer.is_global_zero and trainer.logger is not None:
            told = {**values, "seconds": time.perf_counter() - start}
            point = {f"{self.name}/{each}": value for each, value in told.items()}
            trainer.logger.log_metrics(point, step=trainer.global_step)
