"""Log-probabilities of answer tokens under a causal model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.types import TokenBatch

if TYPE_CHECKING:
    import torch


def scored_logits(model: torch.nn.Module, rows: TokenBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute (logits_NV, ids_N) of the scored tokens, row by row: the prediction for each, and its id.

    Logits are at least fp32: in bf16, losses collapse to a few values (measured for TOFU's truth ratio: 1.5 % mean
    error). Rows are right-padded, so positions count from a row's first token and its logits do not depend on its
    batch. The head runs only at positions where some row is scored: most tokens belong to prompts.

    Raises:
        ValueError: The first token of a row is scored; no earlier token predicts it.
    """
    import torch

    loss_mask_BT = rows.loss_mask_BT.bool()  # noqa: N806
    if bool(loss_mask_BT[:, 0].any()):
        raise ValueError("the first token of a row cannot be scored: nothing precedes it")
    targets_BT = loss_mask_BT[:, 1:]  # noqa: N806
    columns = targets_BT.any(0).nonzero().squeeze(-1)
    if columns.numel() == 0:
        columns = columns.new_zeros(1)  # a blank row still needs a gradient, of 0
    indices_T = torch.arange(rows.input_ids_BT.shape[1], device=rows.input_ids_BT.device)  # noqa: N806
    last_B1 = (indices_T * (rows.attention_mask_BT.bool() | loss_mask_BT)).amax(-1, keepdim=True)  # noqa: N806
    positions_BT = torch.minimum(indices_T, last_B1)  # noqa: N806 - padding repeats the last position
    logits_BKV = model(  # noqa: N806
        input_ids=rows.input_ids_BT, attention_mask=rows.attention_mask_BT, position_ids=positions_BT, use_cache=False,
        logits_to_keep=columns,
    ).logits  # fmt: skip
    logits_NV = logits_BKV[targets_BT[:, columns]]  # noqa: N806
    return logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)), rows.input_ids_BT[loss_mask_BT]


def answer_nll(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Compute the negative log-likelihood of every scored token, nll_BT, in nats; 0 elsewhere.

    nll[b, t] = logsumexp_v z[b, t, v] - z[b, t, ids[b, t]]
    """
    logits_NV, ids_N = scored_logits(model, rows)  # noqa: N806
    nll_N = logits_NV.logsumexp(-1) - logits_NV.gather(-1, ids_N[:, None]).squeeze(-1)  # noqa: N806
    return nll_N.new_zeros(rows.input_ids_BT.shape).masked_scatter(rows.loss_mask_BT.bool(), nll_N)


def answer_logps(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Compute log p(answer | prompt) of every row, shape (B,), in nats, including the end token; 0 for a blank row."""
    return -answer_nll(model, rows).sum(-1)
