"""KL minimisation: ascent on the forget set, KL to the start model on the retain set (TOFU, arXiv 2401.06121)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.preference import start_kl
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Kl(BaseMethod):
    """L = -CE(forget) + w * mean over retain answer tokens of KL(p_start || p).

    The first term is unbounded below: the model collapses if not stopped. Published code includes prompts and padding
    in the divergence.

    Args:
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "retain")
    reference: ClassVar[Reference] = "model"

    def __init__(self, *, retain_weight: NonNegative) -> None:
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget`` with weight -1, and ``retain``, the divergence."""
        return {
            "forget": cross_entropy(model, batch["forget"], stream="forget", weight=-1.0),
            "retain": start_kl(model, reference, batch["retain"], stream="retain", weight=self.retain_weight),
        }
