"""UNDIAL: distil the start model with the true token's logit reduced (arXiv 2402.10052)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.retain import RetainMethod, RetainTerm
from meow_lightning.models.logprobs import token_values
from meow_lightning.types import Batch, LossPart, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Undial(RetainMethod):
    """L = mean over forget answer tokens of CE(softmax(z_ref - b onehot(y)), softmax(z)) + retain term.

    z_ref are the start model's logits, y the true token. The target is fixed, so training settles. "UNDIAL:
    Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language Models", Dong et al. 2024.

    Published code (open-unlearning) scores prompts and padding too, where the label -100 reduces entry V - 100 of the
    vocabulary; with fewer entries it fails. Here only answer tokens count. It also computes a retain term with weight
    0; here no retain rows are read, unless ``retain`` says so.

    Args:
        beta: b, reduction of the true token's logit, 0 or more.
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("forget",)
    reference: Reference = "model"

    def __init__(self, *, beta: NonNegative, retain: RetainTerm = "none", retain_weight: NonNegative = 1.0) -> None:
        super().__init__(retain=retain, retain_weight=retain_weight)
        self.beta = beta

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget`` and the retain term.

        Raises:
            TypeError: ``reference`` is ``None``.
        """
        if reference is None:
            raise TypeError("UNDIAL needs the start model: the method's reference must be 'model'")
        cross_N = token_values(self._cross_entropy, model, batch["forget"], frozen=[reference])  # noqa: N806
        return {
            "forget": LossPart(sum=cross_N.sum(), stream="forget", per="token"),
            **self.retain_part(model, batch, reference),
        }

    def _cross_entropy(self, logits_NV: torch.Tensor, ids_N: torch.Tensor, ref_NV: torch.Tensor) -> torch.Tensor:  # noqa: N803
        reduction_N1 = ref_NV.new_full((len(ids_N), 1), -self.beta)  # noqa: N806
        target_NV = ref_NV.scatter_add(-1, ids_N[:, None], reduction_N1).softmax(-1)  # noqa: N806
        return -(target_NV * logits_NV.log_softmax(-1)).sum(-1)
