"""Negative preference optimisation: DPO with the dispreferred answer alone (arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import Positive
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.preference import check_beta, log_ratio, preference_loss
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Npo(BaseMethod):
    """L = -(2 / beta) * mean over forget rows of log sigmoid(-beta * (log p(y|x) - log p_start(y|x))).

    log p(y|x) is the sum over the answer's tokens, including the end token, so long answers weigh more. The gradient is
    that of gradient ascent on the answer, weighted by 2 sigmoid(beta * log-ratio): 1 at the start, approaching 0 once
    the answer is forgotten. For beta -> 0 it is gradient ascent. Published code keeps a second model for log p_start;
    here it is one number per row, computed once.

    Args:
        beta: Above 0, per nat; the smaller, the longer a forgotten answer still gets a gradient.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget",)
    reference: ClassVar[Reference] = "logprobs"

    def __init__(self, *, beta: Positive) -> None:
        self.beta = check_beta(beta)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``forget``, per row; log-ratios are to ``reference`` or to ``ref_logps_B``."""
        margin = -log_ratio(model, batch["forget"], reference)
        return {"forget": preference_loss(margin, batch["forget"], beta=self.beta, stream="forget", weight=1.0)}
