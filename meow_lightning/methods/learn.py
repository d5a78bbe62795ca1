"""Plain fine-tuning: how target and retain models come about."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.losses import cross_entropy
from meow_lightning.methods.base import BaseMethod
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class Learn(BaseMethod):
    """Cross-entropy on the answers of the stream ``learn``."""

    streams: ClassVar[tuple[str, ...]] = ("learn",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """One part: ``learn``."""
        return {"learn": cross_entropy(model, batch["learn"], stream="learn", weight=1.0)}
