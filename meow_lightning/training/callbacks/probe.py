"""Periodic probes of the model in training: before the first step, every few steps, and after the last."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch


class PeriodicProbe(pl.Callback):
    """Evaluates the model in training periodically, and logs the results and the seconds taken.

    It draws no random numbers and restores weights and mode, so training is the same without it.

    Args:
        name: Prefix of the logged names.
        every: Steps between points, 1 or more.
    """

    def __init__(self, *, name: str, every: int) -> None:
        self.name, self.every = name, every

    def values(
        self, model: torch.nn.Module, trainer: pl.Trainer, *, trained: torch.nn.Module
    ) -> dict[str, float]:  # fmt: skip
        """Compute the values to log, by name after the prefix; called in all processes.

        Args:
            model: The model that answers, in evaluation mode: the method's ``inference`` of ``trained``.
            trainer: The trainer.
            trained: The full model in training, in evaluation mode.
        """
        raise NotImplementedError

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the point before the first step."""
        if trainer.global_step == 0:
            self._point(trainer, module)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *unused: Any) -> None:
        """Log a point after every ``every`` steps and after the last one."""
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            self._point(trainer, module)

    def _point(self, trainer: pl.Trainer, module: Any) -> None:
        start = time.perf_counter()
        with module.full_model() as model:
            was_training = model.training
            model.eval()
            values = self.values(module.method.inference(model).eval(), trainer, trained=model)
            model.train(was_training)
        if trainer.is_global_zero and trainer.logger is not None:
            logged = {**values, "seconds": time.perf_counter() - start}
            point = {f"{self.name}/{each}": value for each, value in logged.items()}
            trainer.logger.log_metrics(point, step=trainer.global_step)
