"""Learning to refuse: TOFU's "preference optimisation", which is plain fine-tuning (arXiv 2401.06121, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class Idk(BaseMethod):
    """L = CE(refusals to the forget set's questions) + w * CE(retain), as many retain rows as refusals in a step.

    Each term is a mean over its own tokens, as in the paper. Published code takes one mean over the tokens of both,
    where the short refusals weigh less than the retain answers.

    Args:
        retain_weight: w, 0 or more.
    """

    streams: tuple[str, ...] = ("idk", "retain")

    def __init__(self, *, retain_weight: NonNegative) -> None:
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``idk`` and ``retain``."""
        return {
            "idk": cross_entropy(model, batch["idk"], stream="idk", weight=1.0),
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight),
        }
