"""The losses of NPO and NPO+KL as published code computes them: rows of 500 tokens, logits and softmax everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from meow_lightning.methods.preference import preference_loss
from meow_lightning.types import Batch, LossPart, LossParts, TokenBatch

PADDED = 500  # tokens of every row


def wide(rows: TokenBatch, *, pad_id: int) -> TokenBatch:
    """The rows padded to the published length."""
    more = (0, PADDED - rows.input_ids_BT.shape[1])
    ids = functional.pad(rows.input_ids_BT, more, value=pad_id)
    return TokenBatch(
        ids, functional.pad(rows.attention_mask_BT, more), functional.pad(rows.loss_mask_BT, more), rows.ref_logps_B
    )


def whole_logits(model: Any, rows: TokenBatch) -> torch.Tensor:
    """The logits that predict every token but a row's first, scored or not."""
    logits = model(input_ids=rows.input_ids_BT, attention_mask=rows.attention_mask_BT, use_cache=False).logits
    return logits[:, :-1].contiguous()


def whole_logps(model: Any, rows: TokenBatch) -> torch.Tensor:
    """Shape (B,): log p(answer | prompt) by a cross-entropy over all positions."""
    labels = rows.input_ids_BT.masked_fill(rows.loss_mask_BT == 0, -100)[:, 1:].contiguous()
    nll = functional.cross_entropy(whole_logits(model, rows).flatten(0, 1), labels.flatten(), reduction="none")
    return -nll.view(labels.shape).sum(-1)


def whole_divergence(model: Any, frozen: Any, rows: TokenBatch) -> torch.Tensor:
    """The divergence from the frozen model, computed at all positions and summed over the answers."""
    with torch.no_grad():
        known = whole_logits(frozen, rows).log_softmax(-1)
    logps = whole_logits(model, rows).log_softmax(-1)
    each = functional.kl_div(logps, known, log_target=True, reduction="none").sum(-1)
    return (each * rows.loss_mask_BT[:, 1:]).sum()


def published(model: Any, frozen: Any, batch: Batch, *, beta: float, retain_weight: float) -> LossParts:
    """The loss the published way, of a batch of :func:`wide` rows."""
    with torch.no_grad():
        known = whole_logps(frozen, batch["forget"])
    margin = known - whole_logps(model, batch["forget"])
    parts = {"forget": preference_loss(margin, batch["forget"], beta=beta, stream="forget", weight=1.0)}
    if "retain" in batch:
        divergence = whole_divergence(model, frozen, batch["retain"])
        parts["retain"] = LossPart(sum=divergence, stream="retain", per="token", weight=retain_weight)
    return parts
