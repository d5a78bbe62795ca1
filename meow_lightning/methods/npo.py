"""Negative preference optimisation: DPO with the dispreferred answer alone (arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.preference import check_beta, log_ratio, preference_loss
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Npo(RetainMethod):
    """L = -(2 / beta) * mean over forget rows of log sigmoid(-beta * (log p(y|x) - log p_start(y|x))) + retain term.

    log p(y|x) is the sum over the answer's tokens, including the end token, so long answers weigh more. The gradient is
    that of gradient ascent on the answer, weighted by 2 sigmoid(beta * log-ratio): 1 at the start, approaching 0 once
    the answer is forgotten. For beta -> 0 it is gradient ascent. Published code keeps a second model for log p_start;
    here it is one number per row, computed once, also beside ``retain: kl``. NPO+RT of the paper (npo_grad_diff in
    published code) is ``retain: ce``, NPO+KL ``retain: kl``.

    Args:
        beta: Above 0, per nat; the smaller, the longer a forgotten answer still gets a gradient.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)
    reference: Reference = "logprobs"
    per_row: ClassVar[bool] = True

    def __init__(self, *, beta: Positive, retain: RetainTerm = "none", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta = check_beta(beta)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, per row, and the retain term; log-ratios: :meth:`start_of_ratios`."""
        retain = self.retain_part(model, batch, reference)
        margin = -log_ratio(model, batch["forget"], self.start_of_ratios(reference))
        return {
            "forget": preference_loss(margin, batch["forget"], beta=self.beta, stream="forget", weight=1.0),
            **retain,
        }
