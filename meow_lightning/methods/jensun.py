"""JensUn: refusals and retain rows, both by the bounded Jensen-Shannon divergence (arXiv 2509.02820)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative, Positive
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.logprobs import negative_log_likelihood, token_values
from meow_lightning.types import Batch, LossPart, LossParts, Reference

if TYPE_CHECKING:
    import torch


class JensUn(BaseMethod):
    """L = l_f * mean over refusal tokens of JSD(p, onehot(r)) + l_r * mean over retain tokens of JSD(p, p_start).

    JSD(p, q) = (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in nats, from 0 to log 2. For the one-hot
    distribution of a refusal token r it depends on p(r) alone: log 2 + (p(r) log p(r) - (1 + p(r)) log(1 + p(r))) / 2.
    "Unlearning That Lasts: Utility-Preserving, Robust, and Almost Irreversible Forgetting in LLMs", Singh et al. 2025.

    Inferred: the refusal follows the question and ends with the end token, as in ``idk``. Published code instead keeps
    the true answer as context and repeats the two tokens of "No idea", without an end token, over all its positions.
    The gradient with respect to p(r)'s logit is p(r) (1 - p(r)) log(p(r) / (1 + p(r))) / 2: almost 0 while a refusal
    token is unlikely.

    Published code clamps probabilities to 1e-9 in the precision of the model; here log-probabilities are fp32.

    Args:
        forget_weight: l_f, above 0.
        retain_weight: l_r, 0 or more.
    """

    streams: tuple[str, ...] = ("idk", "retain")
    reference: Reference = "model"

    def __init__(self, *, forget_weight: Positive, retain_weight: NonNegative) -> None:
        self.forget_weight, self.retain_weight = forget_weight, retain_weight

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts per token: ``idk`` and ``retain``.

        Raises:
            TypeError: ``reference`` is ``None``.
        """
        if reference is None:
            raise TypeError("JensUn needs the start model: the method's reference must be 'model'")
        refused_N = token_values(_to_token, model, batch["idk"])  # noqa: N806
        kept_N = token_values(_to_start, model, batch["retain"], frozen=[reference])  # noqa: N806
        return {
            "idk": LossPart(sum=refused_N.sum(), stream="idk", per="token", weight=self.forget_weight),
            "retain": LossPart(sum=kept_N.sum(), stream="retain", per="token", weight=self.retain_weight),
        }


def _to_token(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute JSD(p, onehot(ids)), shape (N,)."""
    nll_N = negative_log_likelihood(logits_NV, ids_N)  # noqa: N806
    p_N = (-nll_N).exp()  # noqa: N806
    return math.log(2) - (p_N * nll_N + (1 + p_N) * p_N.log1p()) / 2


def _to_start(logits_NV: torch.Tensor, _: torch.Tensor, ref_NV: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute JSD(p, p_start), shape (N,)."""
    import torch

    logps_NV, ref_logps_NV = logits_NV.log_softmax(-1), ref_NV.log_softmax(-1)  # noqa: N806
    middle_NV = torch.logaddexp(logps_NV, ref_logps_NV) - math.log(2)  # noqa: N806
    own_N = (logps_NV.exp() * (logps_NV - middle_NV)).sum(-1)  # noqa: N806
    return (own_N + (ref_logps_NV.exp() * (ref_logps_NV - middle_NV)).sum(-1)) / 2
