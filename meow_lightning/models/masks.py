"""Trainable masks: every entry of a weight has a score, and the entries with the lowest scores are switched off."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch.nn.utils import parametrize

from meow_lightning.errors import UserError, invalid_option, nearest

EXAMPLE = r".*\.mlp\..*"
OPTION = "method.target_modules"


class ScoredMask(torch.nn.Module):
    """Parametrization of a weight W with scores s of its shape: W * M(s).

    M is 0 at the ``switched_off`` entries with the lowest |s| (of equal ones, the first in memory) and 1 elsewhere. The
    gradient passes straight through M to |s| (Bengio et al. 2013): dL/d|s| = dL/dM. W itself is never written.

    Args:
        scores: Initial scores.
        switched_off: Number of entries to switch off, from 0 to all.
    """

    def __init__(self, scores: torch.Tensor, *, switched_off: int) -> None:
        super().__init__()
        self.scores = torch.nn.Parameter(scores)
        self.switched_off = switched_off

    def off(self) -> torch.Tensor:
        """Mark the entries that are switched off, boolean, of the weight's shape."""
        magnitude = self.scores.detach().abs().flatten()
        if not self.switched_off:
            return torch.zeros_like(self.scores, dtype=torch.bool)
        limit = magnitude.kthvalue(self.switched_off).values
        below, equal = magnitude < limit, magnitude == limit
        # kthvalue alone would switch off all equal ones; scores on a grid often are.
        first = equal & (equal.cumsum(0) <= self.switched_off - below.sum())
        return (below | first).view_as(self.scores)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Mask the weight; the result has its dtype."""
        magnitude = self.scores.abs().to(weight.dtype)
        return weight * ((~self.off()).to(weight.dtype) + (magnitude - magnitude.detach()))  # the bracket is exactly 0


def attach_masks(model: torch.nn.Module, pattern: str, *, share: float, seed: int) -> None:
    """Attach a mask to every weight matrix of the selected modules; a model that has masks keeps them.

    Scores start uniform in +-1 / sqrt(fan-in), Kaiming's uniform distribution with a = sqrt(5), as published. They
    depend on the seed and the order of the matrices alone.

    Args:
        model: The model.
        pattern: Regular expression that must match the whole name of a module, as in peft's ``target_modules``.
        share: Share of every matrix that is switched off, rounded down to whole entries.
        seed: Seed of the scores.

    Raises:
        UserError: No module with a weight matrix matches, or the share is less than one entry everywhere.
    """
    if next(masks(model), None) is not None:
        return
    chosen = [each for each in _matrices(model) if re.fullmatch(pattern, each[0])]
    if not chosen:
        kinds = dict.fromkeys(re.sub(r"\d+", "N", name) for name, _, _ in _matrices(model))
        expected = f"a regular expression for names of this model's modules with weight matrices ({', '.join(kinds)})"
        similar = nearest(pattern, kinds)
        suggested = None if similar is None else re.escape(similar).replace("N", r"\d+")
        raise invalid_option(OPTION, pattern, expected, did_you_mean=suggested)
    generator = torch.Generator().manual_seed(seed)
    counts = [int(share * getattr(module, weight).numel() + 1e-6) for _, module, weight in chosen]
    if not any(counts):
        raise UserError(
            f"method.share={share:g} is less than one entry of every selected matrix, so nothing would be unlearned; "
            f"raise it above {1 / max(getattr(module, weight).numel() for _, module, weight in chosen):.0e}"
        )
    for (_, module, name), count in zip(chosen, counts, strict=True):
        weight = getattr(module, name)
        # float32 draws are the same on every machine, in any dtype of the weights
        scores = (2 * torch.rand(weight.shape, generator=generator) - 1) / weight[0].numel() ** 0.5
        mask = ScoredMask(scores.to(weight.device, weight.dtype), switched_off=count)
        parametrize.register_parametrization(module, name, mask)


def _matrices(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, str]]:
    """Yield every weight of two or more dimensions: the module's name, the module and the weight's name in it."""
    for name, module in model.named_modules():
        for own, weight in module.named_parameters(recurse=False):
            if weight.ndim >= 2:
                yield name, module, own


def masks(model: torch.nn.Module) -> Iterator[tuple[str, ScoredMask]]:
    """Yield the attached masks with their names."""
    for name, module in model.named_modules():
        if isinstance(module, ScoredMask):
            yield name, module


def apply_masks(model: torch.nn.Module) -> None:
    """Set the entries that are switched off to zero, and detach all masks; every other entry keeps its bits."""
    for module in list(model.modules()):
        if not parametrize.is_parametrized(module):
            continue
        for name, chain in list(module.parametrizations.items()):  # type: ignore[union-attr, operator]
            off = chain[0].off()
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
            with torch.no_grad():
                getattr(module, name).masked_fill_(off, 0)
