"""MEOW: fine-tune on the inverted facts selected by MEMO (arXiv 2409.11844; Findings of ACL 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class Meow(BaseMethod):
    """Cross-entropy on the selected inverted answers, prompt masked; no retain data, no reference model.

    L = (1 / n) * sum over the tokens of the inverted answers of -log p(token | question, earlier tokens)
    """

    streams: ClassVar[tuple[str, ...]] = ("inverted",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``inverted``."""
        return {"inverted": cross_entropy(model, batch["inverted"], stream="inverted", weight=1.0)}
