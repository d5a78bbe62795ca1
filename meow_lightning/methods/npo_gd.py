"""NPO with descent on the retain set (NPO+RT in arXiv 2404.05868; npo_grad_diff in published code)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.npo import Npo
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class NpoGd(Npo):
    """L = NPO(forget) + w * CE(retain), as many retain rows as forget rows in a step.

    Args:
        beta: As in NPO.
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "retain")

    def __init__(self, *, beta: Positive, retain_weight: NonNegative) -> None:
        super().__init__(beta=beta)
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget`` per row, and ``retain``."""
        retain = cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight)
        return {**super().loss(model, batch, reference), "retain": retain}
