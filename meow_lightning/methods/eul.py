"""EUL: unlearning layers with a selective teacher-student objective, fusable over requests (arXiv 2310.20150)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from meow_lightning.config.ranges import NonNegative, Positive, Range
from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.methods.losses import cross_entropy, kl_divergence
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts, TokenBatch

if TYPE_CHECKING:
    import torch

    from meow_lightning.models.unlearning_layers import Correction


class Eul(BaseMethod):
    """Epochs alternate between L_f = -KL_f - g CE_f on the forget set and L_r = a KL_r + l CE_r on the retain set.

    KL = KL(p_teacher || p) and CE are means over answer tokens; in L_f each token counts at most ``bound`` nats in
    either. Only unlearning layers are trained: y + y A B after every feed-forward block's output y, with A constant and
    B zero at first, so that step 0 is the start model. The teacher is the same model with the layers bypassed. "Unlearn
    What You Want to Forget: Efficient Unlearning for LLMs", Chen and Yang, EMNLP 2023, with weights a = 0.8, l = 1 and
    g = 0.2.

    The first epoch is one of the forget set: at B = 0 the gradient of KL_f is exactly 0, and CE_f alone moves the
    layers. An even number of epochs ends with the retain set. Nothing bounds the paper's forget terms; ``bound`` is
    ours. So is the form of the layers: linear, where the paper has adapters with a non-linearity. The fusion of several
    requests (:func:`~meow_lightning.models.unlearning_layers.fuse`) is exact for a linear layer alone, and the result
    can be folded into the last linear layer of each block: a plain model again. Since A is the same in all requests,
    their fusion has the same rank, and Gram matrices are R x R.

    The published repository contains neither the layers nor the objective nor the fusion. The paper's L_LM is the
    negated loss of masked spans of an encoder-decoder; for a causal model it is -CE_f.

    The model's folder has ``unlearning/corrections.safetensors``, which ``meow-lightning fuse`` reads: A, B and the
    Gram matrices of the layers' inputs on the forget set, which disclose second-order statistics of the forgotten
    texts.

    Args:
        rank: Columns of A, from 1; at most the width of the model is used.
        kl_weight: a, weight of the divergence from the teacher on the retain set, 0 or more.
        retain_weight: l, weight of the cross-entropy on the retain set, 0 or more.
        ascent_weight: g, weight of the negated cross-entropy on the forget set, 0 or more.
        bound: Largest contribution of a forget token to either of its terms, in nats, above 0.

    Attributes:
        corrections: The layers of this request with their Gram matrices, bottom first; empty before :meth:`finalize`.
    """

    attaches: ClassVar[bool] = True
    streams: tuple[str, ...] = ("forget", "retain")

    def __init__(
        self, *, rank: Annotated[int, Range(1, 10**5)], kl_weight: NonNegative, retain_weight: NonNegative,
        ascent_weight: NonNegative, bound: Positive,
    ) -> None:  # fmt: skip
        self.rank, self.bound = rank, bound
        self.kl_weight, self.retain_weight, self.ascent_weight = kl_weight, retain_weight, ascent_weight
        self.corrections: list[Correction] = []
        self._teacher: torch.nn.Module | None = None
        self._batches: Callable[[str], Iterator[TokenBatch]] | None = None

    def prepare(self, ctx: PrepareContext) -> None:
        """Attach the unlearning layers, unless the model has them already.

        Raises:
            UserError: The model has no feed-forward blocks that end with one linear layer.
        """
        from meow_lightning.models.frozen_view import FrozenView
        from meow_lightning.models.unlearning_layers import attach_layers, bypassed, unlearning_layers

        if not unlearning_layers(ctx.model):
            attach_layers(ctx.model, rank=self.rank)
        self._teacher, self._batches, self._device = FrozenView(ctx.model, bypassed), ctx.batches, ctx.device

    def parameters(self, model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        """Select the matrices B of the unlearning layers."""
        from meow_lightning.models.unlearning_layers import unlearning_layers

        layers = {id(layer.up) for layer in unlearning_layers(model)}
        return [(name, weight) for name, weight in model.named_parameters() if id(weight) in layers]

    def phase(self, epoch: int) -> tuple[str, ...]:
        """Alternate: the forget set in even epochs, the retain set in odd ones."""
        return (self.streams[epoch % 2],)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return the parts of the streams in the batch: ``forget_kl``, ``forget_ce``; ``retain_kl``, ``retain_ce``.

        Raises:
            ValueError: :meth:`prepare` has not been called.
        """
        if self._teacher is None:
            raise ValueError("EUL has no teacher yet: call prepare() before the first loss")
        parts: LossParts = {}
        forget, retain = batch.get("forget"), batch.get("retain")
        if forget is not None:
            divergence = kl_divergence(model, self._teacher, forget, bound=self.bound)
            nll = answer_nll(model, forget).clamp(max=self.bound).sum()
            parts["forget_kl"] = LossPart(sum=divergence, stream="forget", per="token", weight=-1.0)
            parts["forget_ce"] = LossPart(sum=nll, stream="forget", per="token", weight=-self.ascent_weight)
        if retain is not None:
            divergence = kl_divergence(model, self._teacher, retain)
            parts["retain_kl"] = LossPart(sum=divergence, stream="retain", per="token", weight=self.kl_weight)
            parts["retain_ce"] = cross_entropy(model, retain, stream="retain", weight=self.retain_weight)
        return parts

    def finalize(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Compute the Gram matrices on the forget set, then fold the layers into the model, which is plain again.

        Raises:
            ValueError: :meth:`prepare` has not been called.
        """
        from meow_lightning.models.unlearning_layers import fold_layers

        if self._batches is None:
            raise ValueError("EUL has no rows for its Gram matrices yet: call prepare() first")
        device = next(model.parameters()).device
        self.corrections = fold_layers(model.to(self._device), self._batches("forget"))
        model.to(device)

    def export(self, model: torch.nn.Module, folder: Path) -> None:
        """Write the plain model, and beside it what fusing needs."""
        from meow_lightning.models.unlearning_layers import save_corrections

        super().export(model, folder)
        save_corrections(self.corrections, folder)
