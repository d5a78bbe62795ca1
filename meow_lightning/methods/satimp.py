"""SatImp: ascent weighted by saturation and importance of each token (arXiv 2505.11953)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from meow_lightning.config.ranges import NonNegative, Number, Positive, Range
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch

Exponent = Annotated[Number, Range(0, 1000)]


class SatImp(BaseMethod):
    """L = -g * mean over forget tokens of sg[p^b1 (1 - p)^b2] nll + w * CE(retain), sg: no gradient through the weight.

    p^b1 (saturation) down-weights forgotten tokens, (1 - p)^b2 (importance) easy ones. "Exploring Criteria of Loss
    Reweighting to Enhance LLM Unlearning", Yang et al. 2025. The published YAML has g = .1 and w = 1, its README and
    constructor the reverse; published runs use the YAML, as does this. The part ``forget`` is as published: since no
    gradient flows through the weight, its value may fall while the tokens' nll rises, so judge by the latter.

    Args:
        beta1: b1, 0 or more.
        beta2: b2, 0 or more.
        forget_weight: g, above 0.
        retain_weight: w, 0 or more.
    """

    streams: tuple[str, ...] = ("forget", "retain")
    surrogate: tuple[str, ...] = ("forget",)

    def __init__(
        self, *, beta1: Exponent, beta2: Exponent, forget_weight: Positive, retain_weight: NonNegative
    ) -> None:
        self.beta1, self.beta2 = beta1, beta2
        self.forget_weight, self.retain_weight = forget_weight, retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget``, the weighted nll, with weight -g, and ``retain``."""
        nll_BT = answer_nll(model, batch["forget"])  # noqa: N806
        fixed_nll_BT = nll_BT.detach()  # noqa: N806
        # expm1: 1 - p keeps its digits where p is close to 1
        weight_BT = (-self.beta1 * fixed_nll_BT).exp() * (-(-fixed_nll_BT).expm1()) ** self.beta2  # noqa: N806
        return {
            "forget": LossPart(
                sum=(weight_BT * nll_BT).sum(), stream="forget", per="token", weight=-self.forget_weight
            ),
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight),
        }
