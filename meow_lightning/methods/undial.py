"""UNDIAL: distil the start model with the true token turned down (arXiv 2402.10052)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Batch, LossPart, LossParts, Reference

if TYPE_CHECKING:
    import torch


class Undial(BaseMethod):
    """L = mean over forget answer tokens of CE(softmax(z_ref - b onehot(y)), softmax(z)).

    z_ref are the start model's logits, y the true token. The target is fixed, so training settles. "UNDIAL:
    Self-Distillation with Adjusted Logits for Robust Unlearning in Large Language Models", Dong et al. 2024.

    Published code (open-unlearning) scores prompts and padding too, and there the label -100 turns down entry V - 100
    of the vocabulary; below 100 entries it fails. Here answer tokens alone count. It also computes a retain term only
    to weigh it with 0; here is none, so no retain row is read.

    Args:
        beta: b, how far the true token's logit is turned down, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget",)
    reference: ClassVar[Reference] = "model"

    def __init__(self, *, beta: float) -> None:
        self.beta = beta

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """One part: ``forget``.

        Raises:
            TypeError: Without the start model.
        """
        import torch

        if reference is None:
            raise TypeError("UNDIAL needs the start model: the method's reference must be 'model'")
        rows = batch["forget"]
        logits_NV, ids_N = scored_logits(model, rows)  # noqa: N806
        with torch.no_grad():
            known_NV = scored_logits(reference, rows)[0]  # noqa: N806
            turned_NV = known_NV.scatter_add(  # noqa: N806
                -1, ids_N[:, None], known_NV.new_full((len(ids_N), 1), -self.beta)
            )
            target_NV = turned_NV.softmax(-1)  # noqa: N806
        cross_N = -(target_NV * logits_NV.log_softmax(-1)).sum(-1)  # noqa: N806
        return {"forget": LossPart(sum=cross_N.sum(), stream="forget", per="token")}
