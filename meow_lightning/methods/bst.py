"""BS-T: gradient ascent on the true token and on what the model itself believes (arXiv 2510.19422)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from meow_lightning.config.ranges import Count, NonNegative, Range
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import token_values
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch


class Bst(RetainMethod):
    """L = -mean over forget rows of the mean over answer tokens of CE(q, p) + retain term.

    q = l * sg[belief] + (1 - l) * onehot(y): the true token y, and the model's belief, which is p restricted to its k
    most likely tokens and divided by their sum; no gradient flows through it. Plain ascent moves the mass of the true
    token to the tokens that are likely already, often a paraphrase (the squeezing effect); q pushes at these too. A
    step moves a token's logit by p - q: likely wrong tokens still rise, only more slowly than by plain ascent (l = 0),
    and with l = 1 and k = V nothing moves. "LLM Unlearning with LLM Beliefs", Li et al., ICLR 2026.

    The equation, l = 0.2, k = 20 and cross-entropy on retain rows are those of the authors' code, a fork of
    open-unlearning; that the paper's own equation is the same is inferred. The variant for whole sequences (BS-S),
    which also forgets answers that the model generates, is not implemented. Like ascent, the term is unbounded below.

    Args:
        belief_weight: l, 0 to 1.
        top_k: k, from 1; a larger number than the vocabulary's means all tokens.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)
    surrogate: tuple[str, ...] = ("forget",)
    per_row: ClassVar[bool] = True

    def __init__(
        self, *, belief_weight: Annotated[float, Range(0, 1)], top_k: Count, retain: RetainTerm = "none",
        retain_weight: NonNegative = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.belief_weight, self.top_k = belief_weight, top_k

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, the cross-entropy per row, with weight -1, and the retain term."""
        rows = batch["forget"]
        cross_N = token_values(self._cross_entropy, model, rows)  # noqa: N806
        cross_BT = cross_N.new_zeros(rows.input_ids_BT.shape).masked_scatter(rows.loss_mask_BT.bool(), cross_N)  # noqa: N806
        mean_B = cross_BT.sum(-1) / rows.loss_mask_BT.sum(-1).clamp(min=1)  # noqa: N806
        return {
            "forget": LossPart(sum=mean_B.sum(), stream="forget", per="row", weight=-1.0, rows=mean_B),
            **self.retain_part(model, batch, reference),
        }

    def _cross_entropy(self, logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Compute CE(q, p), shape (N,)."""
        logps_NV = logits_NV.log_softmax(-1)  # noqa: N806
        likely = logits_NV.detach().topk(min(self.top_k, logits_NV.shape[-1]))
        believed_N = -(likely.values.softmax(-1) * logps_NV.gather(-1, likely.indices)).sum(-1)  # noqa: N806
        true_N = -logps_NV.gather(-1, ids_N[:, None]).squeeze(-1)  # noqa: N806
        return self.belief_weight * believed_N + (1 - self.belief_weight) * true_N
