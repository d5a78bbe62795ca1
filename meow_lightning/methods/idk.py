"""Learning to refuse: TOFU's "preference optimisation", which is plain fine-tuning (arXiv 2401.06121, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class Idk(RetainMethod):
    """L = CE(refusals to the forget set's questions) + retain term, as many retain rows as refusals in a step.

    Each term is a mean over its own tokens, as in the paper. Published code takes one mean over the tokens of both,
    where the short refusals weigh less than the retain answers. It also draws a refusal anew whenever it reads a row;
    here a question keeps its refusal, one of 24 of this project or of ``method.refusals``, unless
    ``method.redraw_refusals`` says otherwise.

    Args:
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("idk",)

    def __init__(self, *, retain: RetainTerm = "ce", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``idk`` and the retain term."""
        return {
            "idk": cross_entropy(model, batch["idk"], stream="idk", weight=1.0),
            **self.retain_part(model, batch, reference),
        }
