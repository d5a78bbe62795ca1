"""Weighted gradient ascent: ascent mostly on tokens that the model still knows (arXiv 2502.19301)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch


class Wga(RetainMethod):
    """L = -mean over forget tokens of sg[p^b] nll + retain term, sg: no gradient flows through the weight.

    The gradient of -sg[p^b] nll is that of (p^b - 1) / b, which is the value of the part: it is the minimized
    objective, while the published value rises and falls as a token is forgotten (p nll is largest at p = 1/e). It lies
    between -1/b (all forgotten) and 0 (all known); for b = 0 it is -nll, gradient ascent. "Rethinking LLM Unlearning
    Objectives: A Gradient Perspective and Go Beyond", Wang et al. 2025. Published code copies a reference model without
    using it; here no reference is needed.

    Args:
        beta: b, 0 or more; the larger, the smaller the gradient of nearly forgotten tokens.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)

    def __init__(self, *, beta: NonNegative, retain: RetainTerm = "ce", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta = beta

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, (p^b - 1) / b, and the retain term."""
        nll_BT = answer_nll(model, batch["forget"])  # noqa: N806
        # 0 where nothing is scored, since nll is 0 there; not expm1, whose gradient is 0 if p^b is below rounding
        # error.
        value_BT = ((-self.beta * nll_BT).exp() - 1) / self.beta if self.beta else -nll_BT  # noqa: N806
        return {
            "forget": LossPart(sum=value_BT.sum(), stream="forget", per="token"),
            **self.retain_part(model, batch, reference),
        }
