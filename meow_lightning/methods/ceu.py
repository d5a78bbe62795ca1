"""CE-U: distil the model's own prediction without the true token (arXiv 2503.01224)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import token_values
from meow_lightning.types import Batch, LossPart, LossParts, TokenBatch

if TYPE_CHECKING:
    import torch


class CEU(RetainMethod):
    """L = mean over forget tokens of CE(q, p), q = sg[softmax(z with z_y = -inf)], + retain term.

    With q_v = p_v / (1 - p_y) the divergence of p from q is -log(1 - p_y), so CE(q, p) = H(q) - log(1 - p_y). No
    gradient flows through q, hence CE-U has the gradient of -log(1 - p_y), unlikelihood (arXiv 1908.04319), and the
    part is computed without H(q): -log sigmoid(logsumexp of the other logits - z_y), which neither overflows nor needs
    q. It is bounded below by 0 and converges by itself; as published it has no retain term. Yang 2025.

    Published code averages over the tokens that remain when the first is skipped. Here the sum is divided by all answer
    tokens, the only count that a global batch has, so a step is smaller by the share of first tokens.

    Args:
        skip_first: Whether to exclude the first answer token of every row, as published: it depends more on how answers
            begin than on the fact.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)

    def __init__(self, *, skip_first: bool, retain: RetainTerm = "none", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.skip_first = skip_first

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget`` and the retain term."""
        rows = batch["forget"]
        unlikely_N = token_values(_unlikelihood, model, rows)  # noqa: N806
        scored_N = unlikely_N[~_is_first(rows)] if self.skip_first else unlikely_N  # noqa: N806
        return {
            "forget": LossPart(sum=scored_N.sum(), stream="forget", per="token"),
            **self.retain_part(model, batch, reference),
        }


def _unlikelihood(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute -log(1 - p) of every token, shape (N,)."""
    from torch.nn.functional import logsigmoid

    true_N1 = ids_N[:, None]  # noqa: N806
    others_N = logits_NV.scatter(-1, true_N1, float("-inf")).logsumexp(-1)  # noqa: N806
    return -logsigmoid(others_N - logits_NV.gather(-1, true_N1).squeeze(-1))


def _is_first(rows: TokenBatch) -> torch.Tensor:
    """Mark scored tokens that are the first of their row, shape (N,)."""
    loss_mask_BT = rows.loss_mask_BT.bool()  # noqa: N806
    return (loss_mask_BT.cumsum(-1) == 1)[loss_mask_BT]
