"""BalancedSubnet: switch off feed-forward weights that memorised texts need and others do not (arXiv 2410.02159)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

from meow_lightning.config.ranges import Number, Positive, Range
from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import answer_nll
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch

Mask = Literal["learned", "random"]


class BalancedSubnet(BaseMethod):
    """Minimize J(s) over scores s of the weights theta, then set theta to theta * M(s) and drop the scores.

        J(s) = -(1 - w) * mean over forget tokens of min(-log p, c) + w * mean over retain tokens of -log p

    Both log-probabilities are those of the model with the weights theta * M(s). M(s) is 0 at the share p of every
    matrix with the lowest |s| and 1 elsewhere; gradients pass straight through it to |s|. theta itself is frozen: what
    is not set to zero keeps its bits, and the removed values are stored in an undo file. "Mitigating Memorization in
    Language Models", Sakarvadia et al., ICLR 2025. w = 0 is its method Subnet, which reads no retain rows.

    Published code leaves the forget term unbounded, so that only p and the number of epochs stop it, and takes means
    over a mixed batch, which are NaN where one of the two kinds of rows has none; here both streams have rows in every
    step, and tokens above c have no gradient. It trains the scores by SGD (rate .1, momentum .9); here ``optim``
    decides. It replaces layers by copies with a transposed weight, which transformers does not load again; here the
    model keeps its class.

    Args:
        share: p, above 0 and below 1.
        retain_weight: w, 0 to 1.
        bound: c in nats, above 0; ``None`` for the logarithm of the vocabulary's size.
        target_modules: Regular expression that matches the whole names of the modules whose weight matrices are masked.
        mask: ``learned``, or ``random``: the initial scores are kept and nothing is trained, for comparison.

    Raises:
        UserError: ``target_modules`` is no regular expression, or ``mask`` is unknown.
    """

    attaches: ClassVar[bool] = True
    sparse: ClassVar[bool] = True

    def __init__(
        self, *, share: Annotated[Number, Range(0, 1, above=True, below=True)],
        retain_weight: Annotated[Number, Range(0, 1)], bound: Positive | None, target_modules: str, mask: Mask,
    ) -> None:  # fmt: skip
        check_choice("method.mask", mask, get_args(Mask))
        try:
            re.compile(target_modules)
        except re.error as error:
            raise invalid_option("method.target_modules", target_modules, f"a regular expression ({error})") from error
        self.share, self.retain_weight, self.bound = share, retain_weight, bound
        self.target_modules, self.mask = target_modules, mask
        self.streams = ("forget", "retain") if retain_weight else ("forget",)
        self._limit = bound

    @property
    def done(self) -> bool:
        """Whether the mask is random, so that there is nothing to train."""
        return self.mask == "random"

    def prepare(self, ctx: PrepareContext) -> None:
        """Attach the masks.

        Raises:
            UserError: ``target_modules`` or ``share`` selects no weight.
        """
        import math

        from meow_lightning.models.masks import attach_masks

        attach_masks(ctx.model, self.target_modules, share=self.share, seed=ctx.seed)
        if self.bound is None:
            self._limit = math.log(ctx.model.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]

    def parameters(self, model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        """Select the scores."""
        from meow_lightning.models.masks import masks

        return [(f"{name}.scores", mask.scores) for name, mask in masks(model)]

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget``, the bounded loss, and ``retain``, if it has a weight.

        Raises:
            ValueError: The bound is the vocabulary's, and :meth:`prepare` has not been called.
        """
        if self._limit is None:
            raise ValueError("BalancedSubnet has no bound yet: call prepare() before the first loss")
        nll_BT = answer_nll(model, batch["forget"]).clamp(max=self._limit)  # noqa: N806
        weight = self.retain_weight
        parts = {"forget": LossPart(sum=nll_BT.sum(), stream="forget", per="token", weight=weight - 1)}
        if weight:
            parts["retain"] = cross_entropy(model, batch["retain"], stream="retain", weight=weight)
        return parts

    def finalize(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Write the masks into the weights."""
        from meow_lightning.models.masks import apply_masks

        apply_masks(model)
