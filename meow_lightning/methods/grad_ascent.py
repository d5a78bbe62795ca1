"""Gradient ascent, alone or with a term that keeps the retain set (TOFU, arXiv 2401.06121, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.retain import RetainMethod
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class GradAscent(RetainMethod):
    """Ascent on the forget set's cross-entropy: L = -CE(forget) + retain term.

    The first term is unbounded below: the model collapses unless training is stopped. TOFU's gradient difference is
    ``retain: ce``, its KL minimisation ``retain: kl``.

    Args:
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, with weight -1, and the retain term."""
        return {
            "forget": cross_entropy(model, batch["forget"], stream="forget", weight=-1.0),
            **self.retain_part(model, batch, reference),
        }
