"""Losses as pure tensor functions, one equation each. Nothing here knows Lightning, a trainer or a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from meow_lightning.types import LossPart, Rows

if TYPE_CHECKING:
    import torch


def next_token_logits(model: torch.nn.Module, rows: Rows) -> torch.Tensor:
    """Logits_BTV that predict the token *at* each position (position 0 repeats position 1's, and is never scored).

    Position ids count tokens and not padding, so a row's logits do not depend on its neighbours in the batch.
    """
    positions_BT = (rows.attention_BT.cumsum(-1) - 1).clamp(min=0)  # noqa: N806
    logits_BTV = model(  # noqa: N806
        input_ids=rows.ids_BT, attention_mask=rows.attention_BT, position_ids=positions_BT, use_cache=False
    ).logits
    return logits_BTV.roll(1, dims=1)


def answer_nll(model: torch.nn.Module, rows: Rows) -> torch.Tensor:
    """Nll_BT, the negative log-likelihood of every scored token in nats, 0 elsewhere.

    nll[b, t] = logsumexp_v z[b, t, v] - z[b, t, ids[b, t]], the log-sum-exp in fp32 at least: in bf16 losses collapse
    to a few values (measured for TOFU's truth ratio: 1.5 % mean error).
    """
    import torch

    predictions_BT = rows.scored_BT.bool()  # noqa: N806
    # Only scored positions reach the softmax: prompts and padding outnumber them several times.
    logits_NV = next_token_logits(model, rows)[predictions_BT]  # noqa: N806
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))  # noqa: N806
    targets_N = rows.ids_BT[predictions_BT]  # noqa: N806
    nll_N = logits_NV.logsumexp(-1) - logits_NV.gather(-1, targets_N[:, None]).squeeze(-1)  # noqa: N806
    return nll_N.new_zeros(predictions_BT.shape).masked_scatter(predictions_BT, nll_N)


def cross_entropy(
    model: torch.nn.Module, rows: Rows, *, stream: str, weight: float, per: Literal["token"] = "token"
) -> LossPart:
    """The cross-entropy of the answers of one stream, as a part whose denominator is the global batch's.

    L = weight * (1 / n) * sum over scored tokens of -log p(token | prompt, earlier tokens), n = scored tokens of the
    global batch. A negative weight ascends.
    """
    return LossPart(sum=answer_nll(model, rows).sum(), stream=stream, per=per, weight=weight)
