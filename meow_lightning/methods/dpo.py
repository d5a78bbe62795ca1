"""Direct preference optimisation towards refusals (DPO: arXiv 2305.18290; as a baseline: NPO, arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import Positive
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.preference import check_beta, log_ratio, preference_loss
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Dpo(BaseMethod):
    """DPO that prefers a refusal to the true answer of each question.

    L = -(2 / beta) * mean over questions of log sigmoid(beta * (r(refusal) - r(answer))),
    r(y) = log p(y|x) - log p_start(y|x), a sum over tokens.

    DPO itself has no factor; unlearning code (NPO, MEOW, open-unlearning) uses NPO's 2 / beta, and so does this: at
    beta 0.1 the term weighs 20 times DPO's relative to a retain term. TOFU's "preference optimisation" is ``idk``
    instead.

    Args:
        beta: Above 0, per nat.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "idk")
    paired: ClassVar[tuple[str, ...]] = ("idk",)
    reference: ClassVar[Reference] = "logprobs"

    def __init__(self, *, beta: Positive) -> None:
        self.beta = check_beta(beta)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``preference``, per row; log-ratios are to ``reference`` or to ``ref_logps_B``."""
        forget = batch["forget"]
        margin = log_ratio(model, batch["idk"], reference) - log_ratio(model, forget, reference)
        return {"preference": preference_loss(margin, forget, beta=self.beta, stream="forget", weight=1.0)}
