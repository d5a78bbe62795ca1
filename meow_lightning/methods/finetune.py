"""Plain fine-tuning, which trains target and retain models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class FineTune(BaseMethod):
    """Cross-entropy on the answers of the stream ``learn``."""

    streams: tuple[str, ...] = ("learn",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``learn``."""
        return {"learn": cross_entropy(model, batch["learn"], stream="learn", weight=1.0)}


class FineTuneUntilKnown(FineTune):
    """Fine-tuning that stops after the first epoch with a mean loss of at most ``known``.

    Each step's loss is taken before its update, so the mean over an epoch needs no extra forward pass.

    Args:
        known: Threshold in nats per answer token, 0 or more.
        steps_per_epoch: Optimizer steps per epoch, 1 or more.
        least: Minimum number of optimizer steps.
    """

    def __init__(self, *, known: float, steps_per_epoch: int, least: int) -> None:
        self.known, self.steps_per_epoch, self.least = known, steps_per_epoch, least
        self.steps, self.sum, self.mean = 0, 0.0, float("inf")

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Accumulate the loss of the current epoch."""
        self.steps, self.sum = self.steps + 1, self.sum + values["learn"]
        if self.steps % self.steps_per_epoch == 0:
            self.mean, self.sum = self.sum / self.steps_per_epoch, 0.0

    @property
    def done(self) -> bool:
        """Whether an epoch has just ended with a mean loss of at most ``known``."""
        epoch_ended = self.steps % self.steps_per_epoch == 0
        return epoch_ended and self.steps >= self.least and self.mean <= self.known

    def state_dict(self) -> dict[str, float]:
        """Return the step count, the loss sum of the current epoch and the mean of the previous one."""
        return {"steps": self.steps, "sum": self.sum, "mean": self.mean}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the counters."""
        self.steps, self.sum, self.mean = int(state["steps"]), state["sum"], state["mean"]
