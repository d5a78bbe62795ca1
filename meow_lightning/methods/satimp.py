"""SatImp: ascent weighted by saturation and importance of each token (arXiv 2505.11953)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from meow_lightning.config.ranges import NonNegative, Number, Positive, Range
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch

Exponent = Annotated[Number, Range(0, 1000)]


class SatImp(RetainMethod):
    """L = -g * mean over forget tokens of sg[p^b1 (1 - p)^b2] nll + retain term, sg: no gradient through the weight.

    p^b1 (saturation) down-weights forgotten tokens, (1 - p)^b2 (importance) easy ones. "Exploring Criteria of Loss
    Reweighting to Enhance LLM Unlearning", Yang et al. 2025. The published YAML has g = .1 and w = 1, its README and
    constructor the reverse; published runs use the YAML, as does this. The part ``forget`` is as published: since no
    gradient flows through the weight, its value may fall while the tokens' nll rises, so judge by the latter.

    Args:
        beta1: b1, 0 or more.
        beta2: b2, 0 or more.
        forget_weight: g, above 0.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: w, its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)
    surrogate: tuple[str, ...] = ("forget",)

    def __init__(
        self, *, beta1: Exponent, beta2: Exponent, forget_weight: Positive, retain: RetainTerm = "ce",
        retain_weight: NonNegative = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta1, self.beta2, self.forget_weight = beta1, beta2, forget_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, the weighted nll, with weight -g, and the retain term."""
        nll_BT = answer_nll(model, batch["forget"])  # noqa: N806
        fixed_nll_BT = nll_BT.detach()  # noqa: N806
        # expm1: 1 - p keeps its digits where p is close to 1
        weight_BT = (-self.beta1 * fixed_nll_BT).exp() * (-(-fixed_nll_BT).expm1()) ** self.beta2  # noqa: N806
        return {
            "forget": LossPart(
                sum=(weight_BT * nll_BT).sum(), stream="forget", per="token", weight=-self.forget_weight
            ),
            **self.retain_part(model, batch, reference),
        }
