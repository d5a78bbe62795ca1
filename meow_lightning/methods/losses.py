"""Losses as pure tensor functions, one equation each. Nothing here knows Lightning, a trainer or a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from meow_lightning.models.logprobs import answer_nll, scored_logits
from meow_lightning.types import LossPart, TokenBatch

if TYPE_CHECKING:
    import torch


def rows_with_targets(rows: TokenBatch) -> torch.Tensor:
    """Shape (B,): 1 for a row that has something scored, 0 for the blank row of a process without work."""
    return rows.loss_mask_BT.any(-1).float()


def kl_divergence(model: torch.nn.Module, reference: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """The Kullback-Leibler divergence of the model from the reference over the scored tokens, summed, in nats.

    sum over scored tokens t of sum_v p_ref(v) (log p_ref(v) - log p(v)), fp32; over the answer alone, while published
    code takes prompts and padding in (open-unlearning).
    """
    logps_NV = scored_logits(model, rows)[0].log_softmax(-1)  # noqa: N806
    known_NV = scored_logits(reference, rows)[0].log_softmax(-1)  # noqa: N806
    return (known_NV.exp() * (known_NV - logps_NV)).sum()


def cross_entropy(
    model: torch.nn.Module, rows: TokenBatch, *, stream: str, weight: float, per: Literal["token"] = "token"
) -> LossPart:
    """The cross-entropy of the answers of one stream, as a part whose denominator is the global batch's.

    L = weight * (1 / n) * sum over scored tokens of -log p(token | prompt, earlier tokens), n = scored tokens of the
    global batch. A negative weight ascends.
    """
    return LossPart(sum=answer_nll(model, rows).sum(), stream=stream, per=per, weight=weight)
