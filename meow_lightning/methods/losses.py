"""Losses as pure tensor functions, one equation each, independent of Lightning, trainer and config."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from meow_lightning.models.logprobs import answer_nll, token_values
from meow_lightning.types import LossPart, TokenBatch

if TYPE_CHECKING:
    import torch


def rows_with_targets(rows: TokenBatch) -> torch.Tensor:
    """Mark rows with scored tokens, shape (B,): 1, or 0 for the blank row of a process without data."""
    return rows.loss_mask_BT.any(-1).float()


def kl_divergence(
    model: torch.nn.Module, reference: torch.nn.Module, rows: TokenBatch, *, bound: float = math.inf
) -> torch.Tensor:
    """Sum KL(reference || model) over the scored tokens, in nats.

    sum over scored tokens t of sum_v p_ref(v) (log p_ref(v) - log p(v)), in fp32; answer tokens only, whereas published
    code includes prompts and padding (open-unlearning).

    Args:
        model: The model that the gradient is for.
        reference: The frozen model.
        rows: Rows of one stream.
        bound: Largest contribution of a token, in nats, above 0; beyond it a token has no gradient.
    """
    return token_values(divergence, model, rows, frozen=[reference]).clamp(max=bound).sum()


def divergence(logits_NV: torch.Tensor, _: torch.Tensor, ref_NV: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute KL(reference || model) of every token from the logits of both, shape (N,), in nats."""
    logps_NV, ref_logps_NV = logits_NV.log_softmax(-1), ref_NV.log_softmax(-1)  # noqa: N806
    return (ref_logps_NV.exp() * (ref_logps_NV - logps_NV)).sum(-1)


def cross_entropy(
    model: torch.nn.Module, rows: TokenBatch, *, stream: str, weight: float, per: Literal["token"] = "token"
) -> LossPart:
    """Cross-entropy of one stream's answers, as a part with the global batch's denominator.

    L = weight * (1 / n) * sum over scored tokens of -log p(token | prompt, earlier tokens), n = scored tokens of the
    global batch. A negative weight means ascent.
    """
    return LossPart(sum=answer_nll(model, rows).sum(), stream=stream, per=per, weight=weight)
