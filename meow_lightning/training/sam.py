"""Sharpness-aware minimization: the gradient at the worst weights nearby (arXiv 2010.01412; unlearning: 2502.05374)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch.distributed.tensor import DTensor

from meow_lightning.data.collate import rows_of
from meow_lightning.types import Batch

Terms = Literal["forget", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sam:
    """Minimize max over |e| <= rho of L(w + e), to first order: the gradient of L is that at w + rho g / |g|.

    g is the gradient at w of the whole global batch, and |.| the 2-norm over all trained weights. "Towards LLM
    Unlearning Resilient to Relearning Attacks", Fan et al. 2025, perturbs the forget term alone, whose gradient at
    w + e is added to that of the retain term at w. A method's regularizer is never perturbed. Published code forgets
    all micro-batches but the last of a step, since each one clears the gradients, and returns from w + e by
    subtraction, which rounds; here w is restored exactly.

    Attributes:
        rho: Norm of the perturbation, above 0 (published code: 0.01).
        terms: Terms of the loss that are perturbed: ``forget``, all streams but ``retain``, or ``all``.
    """

    rho: float
    terms: Terms

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Self | None:
        """Read the options of a recipe; ``None`` if it is off."""
        rho = recipe.get("sam_rho")
        return cls(rho=rho, terms=recipe["sam_terms"]) if rho else None

    def split(self, micros: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
        """Split the micro-batches of a step into those of the perturbed terms and those of the others.

        Both lists have all streams; a stream's rows are in one of them, and a blank row in the other. Losses are sums
        over rows, so those of both lists add up to that of the step. A list is empty if it would have no rows at all.
        """
        calm = {"retain"} & micros[0].keys() if self.terms == "forget" else set()
        if not calm or calm == micros[0].keys():
            return ([], [*micros]) if calm else ([*micros], [])
        return [rows_of(each, each.keys() - calm) for each in micros], [rows_of(each, calm) for each in micros]


@contextlib.contextmanager
def perturbed(weights: Iterable[torch.nn.Parameter], *, rho: float) -> Iterator[None]:
    """Move weights by ``rho * g / |g|`` within the context, g their gradients, which are cleared.

    Args:
        weights: The trained weights; those without a gradient stay. With several processes, gradients must have been
            exchanged, so that all move alike. Shards are allowed.
        rho: Length of the move, above 0; gradients that are all 0 move nothing.
    """
    gradients = [(weight, weight.grad) for weight in weights if weight.grad is not None]
    saved = [(weight, weight.detach().clone()) for weight, _ in gradients]
    norm = torch.nn.utils.get_total_norm([gradient for _, gradient in gradients])
    length = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    with torch.no_grad():
        for weight, gradient in gradients:
            if length:
                weight.add_(gradient, alpha=rho / length)
            weight.grad = None
    torch.clear_autocast_cache()  # it holds 16-bit copies of the weights before the move
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, before in saved:
                weight.copy_(before)
        torch.clear_autocast_cache()
