"""MEOW with KL to the start model on the retain set. Not in the paper: ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.preference import start_kl
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class MeowKl(BaseMethod):
    """L = CE(inverted) + w * mean over retain answer tokens of KL(p_start || p).

    ``meow_forgetKL`` of MEOW's code is something else: it takes the divergence on the inverted rows themselves,
    including prompts and padding, so it counteracts the other term; the retain rows that it loads are unused. Here the
    divergence is taken on retain answers only.

    Args:
        retain_weight: w, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("inverted", "retain")
    reference: ClassVar[Reference] = "model"

    def __init__(self, *, retain_weight: NonNegative) -> None:
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``inverted``, and ``retain``, the divergence."""
        return {
            "inverted": cross_entropy(model, batch["inverted"], stream="inverted", weight=1.0),
            "retain": start_kl(model, reference, batch["retain"], stream="retain", weight=self.retain_weight),
        }
