"""Gradient difference: ascent on the forget set, descent on the retain set (TOFU, arXiv 2401.06121, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class GradDiff(BaseMethod):
    """L = -CE(forget) + w * CE(retain), as many retain rows as forget rows in a step.

    Args:
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "retain")

    def __init__(self, *, retain_weight: NonNegative) -> None:
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget`` with weight -1, and ``retain``."""
        return {
            "forget": cross_entropy(model, batch["forget"], stream="forget", weight=-1.0),
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight),
        }
