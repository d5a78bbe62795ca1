"""Plain fine-tuning: how target and retain models come about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class FineTune(BaseMethod):
    """Cross-entropy on the answers of the stream ``learn``."""

    streams: ClassVar[tuple[str, ...]] = ("learn",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """One part: ``learn``."""
        return {"learn": cross_entropy(model, batch["learn"], stream="learn", weight=1.0)}


class FineTuneUntilKnown(FineTune):
    """The same, ended after the first epoch whose steps have a mean loss of at most ``known``.

    The loss of a step is that before its update, so an epoch's mean is what the model knew on the way through it, and
    no row needs a further pass.

    Args:
        known: Nats per answer token, 0 or more.
        steps_per_epoch: Optimizer steps of an epoch, 1 or more.
        least: Steps before which training never ends.
    """

    def __init__(self, *, known: float, steps_per_epoch: int, least: int) -> None:
        self.known, self.steps_per_epoch, self.least = known, steps_per_epoch, least
        self.steps, self.sum, self.mean = 0, 0.0, float("inf")

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Add a step's loss to its epoch's."""
        self.steps, self.sum = self.steps + 1, self.sum + values["learn"]
        if self.steps % self.steps_per_epoch == 0:
            self.mean, self.sum = self.sum / self.steps_per_epoch, 0.0

    @property
    def done(self) -> bool:
        """Whether the epoch that has just ended was known."""
        whole = self.steps % self.steps_per_epoch == 0
        return whole and self.steps >= self.least and self.mean <= self.known

    def state(self) -> dict[str, float]:
        """Steps so far, the sum of the epoch's losses, and the mean of the one before."""
        return {"steps": self.steps, "sum": self.sum, "mean": self.mean}

    def restore(self, state: Mapping[str, float]) -> None:
        """Go on from there."""
        self.steps, self.sum, self.mean = int(state["steps"]), state["sum"], state["mean"]
