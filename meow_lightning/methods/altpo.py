"""AltPO: preference of alternative answers over the true ones (arXiv 2409.13474; COLING 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.preference import check_beta, log_ratio, preference_loss
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class AltPo(BaseMethod):
    """DPO that prefers an inverted answer to the true answer of its question.

    L = -(2 / beta) * mean over inverted answers of log sigmoid(beta * (r(inverted) - r(true))) + w * CE(retain),
    r(y) = log p(y|x) - log p_start(y|x), a sum over tokens.

    An epoch visits every selected inverted answer once, and thus a question's true answer as often as it has inverted
    ones. The paper samples its alternatives from the model itself at temperature 1, five per question, and trains on
    all; here they come from ``inversion`` and ``select``, as in MEOW. Without the true answer's term this is MEOW with
    a retain term.

    Args:
        beta: Above 0, per nat.
        retain_weight: w, 0 or more.
    """

    streams: tuple[str, ...] = ("inverted", "forget", "retain")
    paired: tuple[str, ...] = ("forget",)
    reference: Reference = "logprobs"
    per_row: ClassVar[bool] = True

    def __init__(self, *, beta: Positive, retain_weight: NonNegative) -> None:
        self.beta = check_beta(beta)
        self.retain_weight = retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``preference`` per inverted row, and ``retain``."""
        inverted = batch["inverted"]
        margin = log_ratio(model, inverted, reference) - log_ratio(model, batch["forget"], reference)
        return {
            "preference": preference_loss(margin, inverted, beta=self.beta, stream="inverted", weight=1.0),
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight),
        }
