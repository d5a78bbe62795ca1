"""Gradient ascent: the simplest baseline (TOFU, arXiv 2401.06121, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class GradAscent(BaseMethod):
    """Ascent on the forget set's cross-entropy: L = -CE(forget). Unbounded below: it collapses unless stopped."""

    streams: ClassVar[tuple[str, ...]] = ("forget",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``forget``, with weight -1."""
        return {"forget": cross_entropy(model, batch["forget"], stream="forget", weight=-1.0)}
