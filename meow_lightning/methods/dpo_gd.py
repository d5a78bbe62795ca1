"""DPO towards refusals with descent on the retain set (DPO+RT in the NPO paper, arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.dpo import Dpo
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class DpoGd(Dpo):
    """L = DPO(refusal over answer) + w * CE(retain), as many retain rows as forget rows in a step.

    Args:
        beta: As in DPO.
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "idk", "retain")

    def __init__(self, *, beta: Positive, retain_weight: NonNegative) -> None:
        super().__init__(beta=beta)
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``preference`` per row, and ``retain``."""
        retain = cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight)
        return {**super().loss(model, batch, reference), "retain": retain}
