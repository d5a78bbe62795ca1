"""MEOW with a retain term. Not in the paper: ours, for users with retain data who want to preserve more."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class MeowRetain(BaseMethod):
    """Cross-entropy on the selected inverted answers plus cross-entropy on as many retain rows.

    L = CE(inverted) + w * CE(retain)

    Args:
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("inverted", "retain")

    def __init__(self, *, retain_weight: NonNegative) -> None:
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``inverted`` and ``retain``."""
        return {
            "inverted": cross_entropy(model, batch["inverted"], stream="inverted", weight=1.0),
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight),
        }
