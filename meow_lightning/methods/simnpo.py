"""SimNPO: reference-free negative preference optimisation, normalised by answer length (arXiv 2410.07163)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from meow_lightning.config.ranges import NonNegative, Number, Positive, Range
from meow_lightning.methods.preference import check_beta, preference_loss
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class SimNpo(RetainMethod):
    """L = -g * (2 / beta) * mean over forget rows of log sigmoid(beta * (-log p(y|x) / |y| - delta)) + retain term.

    |y| is the number of answer tokens, including the end token. The paper writes its margin outside the bracket:
    gamma = beta * delta; published code writes it as here and also calls it gamma, while its other gamma is g.

    Args:
        beta: Above 0, per nat.
        delta: Mean nll of an answer, in nats, at which its gradient is half of the maximum; any number.
        forget_weight: g, above 0.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)
    per_row: ClassVar[bool] = True

    def __init__(
        self, *, beta: Positive, delta: Annotated[Number, Range(-1000, 1000)], forget_weight: Positive,
        retain: RetainTerm = "ce", retain_weight: NonNegative = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta = check_beta(beta)
        self.delta = delta
        self.forget_weight = forget_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, per row, and the retain term."""
        forget = batch["forget"]
        length_B = forget.loss_mask_BT.sum(-1).clamp(min=1)  # noqa: N806
        margin = -answer_logps(model, forget) / length_B - self.delta
        return {
            "forget": preference_loss(margin, forget, beta=self.beta, stream="forget", weight=self.forget_weight),
            **self.retain_part(model, batch, reference),
        }
