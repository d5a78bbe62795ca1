"""LoKU: the inverted hinge loss of low-rank knowledge unlearning (arXiv 2408.06621)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.methods.retain import RetainMethod
from meow_lightning.models.logprobs import token_values
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch


class Loku(RetainMethod):
    """L = mean over forget answer tokens of (1 + p_y - max over v != y of p_v) + retain term.

    The inverted hinge loss lies between 0 (another token has probability 1) and 2 (the true one has), so no clamp is
    needed. With v* the most probable other token, its gradient by logits is

        y: p_y (1 - p_y + p_v*),  v*: -p_v* (1 + p_y - p_v*),  other v: p_v (p_v* - p_y)

    It lowers the true token, raises one other and leaves the rest nearly alone, and vanishes with p_y, so unlearning
    settles by itself, where gradient ascent raises all tokens without end. "Towards Robust and Parameter-Efficient
    Knowledge Unlearning for LLMs", Cha et al. 2024; its adapters start as ``model.lora.init=fila`` says (see
    :func:`meow_lightning.training.adapter_init.fisher_row_weights`), which any method may use, as this loss may train
    all weights.

    Published code takes scores for probabilities if all of them lie in [0, 1], as logits of a small or new model may;
    here softmax is always applied, in at least float32. Its retain rows are drawn at random for every forget row.

    Args:
        retain: The retain term; published: ``ce``. See :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more; published: 1.
    """

    streams: tuple[str, ...] = ("forget",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``forget``, the mean hinge loss of a token, and the retain term."""
        hinge_N = token_values(inverted_hinge, model, batch["forget"])  # noqa: N806
        return {
            "forget": LossPart(sum=hinge_N.sum(), stream="forget", per="token"),
            **self.retain_part(model, batch, reference),
        }


def inverted_hinge(logits_NV: torch.Tensor, ids_N: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute 1 + p(id) - max over other tokens of p, shape (N,), from 0 to 2."""
    probabilities_NV = logits_NV.softmax(-1)  # noqa: N806
    ids_N1 = ids_N[:, None]  # noqa: N806
    others_NV = probabilities_NV.scatter(-1, ids_N1, -1.0)  # noqa: N806
    return 1 + probabilities_NV.gather(-1, ids_N1).squeeze(-1) - others_NV.amax(-1)
