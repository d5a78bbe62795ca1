"""FLAT: f-divergence between refusals and forget answers, without retain data (arXiv 2410.11143)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.errors import check_choice
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import rows_with_targets
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts, TokenBatch

if TYPE_CHECKING:
    import torch

Term = Callable[["torch.Tensor"], "torch.Tensor"]
# By divergence: -g(P), minimized on refusals, and f*(g(P)), minimized on true answers.
TERMS: dict[str, tuple[Term, Term]] = {
    "kl": (lambda p: -p, lambda p: (p - 1).exp()),
    "tv": (lambda p: -p.tanh() / 2, lambda p: p.tanh() / 2),
    "js": (lambda p: -p.sigmoid().log() - math.log(2), lambda p: p - p.sigmoid().log() - math.log(2)),
    "pearson": (lambda p: -p, lambda p: p + p**2 / 4),
}


class Flat(BaseMethod):
    """L = mean over questions of -g(P_e) + f*(g(P_f)), P the mean probability of an answer's tokens.

    P_e belongs to the refusal and P_f to the true answer of the same question. With g and the conjugate f* of the
    divergence:

    ======== =========================== ==================================
    name     -g(P_e)                     f*(g(P_f))
    ======== =========================== ==================================
    kl       -P_e                        exp(P_f - 1)
    tv       -tanh(P_e) / 2              tanh(P_f) / 2
    js       -log sigmoid(P_e) - log 2   P_f - log sigmoid(P_f) - log 2
    pearson  -P_e                        P_f + P_f^2 / 4
    ======== =========================== ==================================

    "LLM Unlearning via Loss Adjustment with Only Forget Data", Wang et al., ICLR 2025. Published code takes P over all
    positions, diluting it by prompts and padding, and averages P over the batch before f*; here P is the mean over the
    answer only and f* is applied per question. Its other divergences make refusals less likely and are not supported.
    While refusals are unlikely, P_e and its gradient are almost 0.

    Args:
        divergence: ``kl``, ``tv``, ``js`` or ``pearson``.

    Raises:
        UserError: Unknown divergence.
    """

    streams: tuple[str, ...] = ("forget", "idk")
    paired: tuple[str, ...] = ("idk",)
    per_row: ClassVar[bool] = True

    def __init__(self, *, divergence: str) -> None:
        self.divergence = check_choice("method.divergence", divergence, TERMS)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts per question: ``idk``, -g(P_e), and ``forget``, f*(g(P_f))."""
        refusal_term, answer_term = TERMS[self.divergence]
        forget, idk = batch["forget"], batch["idk"]
        refused_B = refusal_term(_mean_probability(model, idk)) * rows_with_targets(idk)  # noqa: N806
        answered_B = answer_term(_mean_probability(model, forget)) * rows_with_targets(forget)  # noqa: N806
        return {
            "idk": LossPart(sum=refused_B.sum(), stream="forget", per="row", rows=refused_B),
            "forget": LossPart(sum=answered_B.sum(), stream="forget", per="row", rows=answered_B),
        }


def _mean_probability(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Compute the mean probability of each row's scored tokens, shape (B,); 0 for a blank row."""
    probability_BT = (-answer_nll(model, rows)).exp() * rows.loss_mask_BT  # noqa: N806
    return probability_BT.sum(-1) / rows.loss_mask_BT.sum(-1).clamp(min=1)
