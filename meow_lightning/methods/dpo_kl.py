"""DPO towards refusals with KL to the start model on the retain set (DPO+KL in the NPO paper, arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.dpo import Dpo
from meow_lightning.methods.preference import start_kl
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class DpoKl(Dpo):
    """L = DPO(refusal over answer) + w * mean over retain answer tokens of KL(p_start || p).

    DPO's log-ratios use the precomputed log-probabilities, so the start model runs on retain rows only. Published code
    includes prompts and padding in the divergence.

    Args:
        beta: As in DPO.
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "idk", "retain")
    reference: ClassVar[Reference] = "both"

    def __init__(self, *, beta: Positive, retain_weight: NonNegative) -> None:
        super().__init__(beta=beta)
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``preference`` per row, and ``retain``, the divergence."""
        retain = start_kl(model, reference, batch["retain"], stream="retain", weight=self.retain_weight)
        return {**super().loss(model, batch, None), "retain": retain}
