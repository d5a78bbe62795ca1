"""Direct preference optimisation towards refusals (DPO: arXiv 2305.18290; as a baseline: NPO, arXiv 2404.05868)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.preference import check_beta, log_ratio, preference_loss
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Dpo(RetainMethod):
    """DPO that prefers a refusal to the true answer of each question, with an optional retain term.

    L = -(2 / beta) * mean over questions of log sigmoid(beta * (r(refusal) - r(answer))) + retain term,
    r(y) = log p(y|x) - log p_start(y|x), a sum over tokens.

    DPO itself has no factor; unlearning code (NPO, MEOW, open-unlearning) uses NPO's 2 / beta, and so does this: at
    beta 0.1 the term weighs 20 times DPO's relative to a retain term. TOFU's "preference optimisation" is ``idk``
    instead. DPO+RT of the NPO paper is ``retain: ce``, DPO+KL ``retain: kl``.

    Args:
        beta: Above 0, per nat.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget", "idk")
    paired: tuple[str, ...] = ("idk",)
    reference: Reference = "logprobs"
    per_row: ClassVar[bool] = True

    def __init__(self, *, beta: Positive, retain: RetainTerm = "none", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta = check_beta(beta)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``preference``, per row, and the retain term; log-ratios: :meth:`start_of_ratios`."""
        retain, forget = self.retain_part(model, batch, reference), batch["forget"]
        start = self.start_of_ratios(reference)
        margin = log_ratio(model, batch["idk"], start) - log_ratio(model, forget, start)
        return {
            "preference": preference_loss(margin, forget, beta=self.beta, stream="forget", weight=1.0),
            **retain,
        }
