"""Aggregation of the forget term over rows: its mean, its soft maximum or the mean of its largest half (BalDRO)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch

from meow_lightning.data.batch_plan import Counts
from meow_lightning.data.collate import rows_of
from meow_lightning.distributed import all_gather
from meow_lightning.methods.losses import rows_with_targets
from meow_lightning.types import Batch, LossParts

Kind = Literal["worst", "top"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Aggregate the losses L_1 .. L_n of a global batch's rows by something else than their mean.

    ``worst``: +b * log(mean of exp(+L_i / b)), between mean and maximum. Its gradient is the sum of w_i * grad L_i with
    w_i = softmax(L / b)_i: rows with a large loss, those that are forgotten least, weigh most. Published code (BalDRO)
    computes -b * log(mean of exp(-L_i / b)), a soft minimum, which weighs the rows most that are already forgotten.

    ``top``: the mean of the largest half, of max(1, n // 2) rows; rows with equal losses at its edge share their
    weight. Published code selects the rows by the likelihood of their answers.

    L_i has all parts of a row, with their weights, but not the retain term, which stays a mean.

    Attributes:
        kind: ``worst`` or ``top``.
        temperature: b, in the unit of the loss, above 0; for ``worst``. For b -> infinity it is the mean, for b -> 0
            the maximum.
    """

    kind: Kind
    temperature: float

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> Self | None:
        """Read the options of a recipe; ``None`` for the mean."""
        kind = recipe.get("aggregate", "mean")
        return None if kind == "mean" else cls(kind=kind, temperature=recipe.get("aggregate_temperature", 0.0))

    def value(self, losses: Sequence[float]) -> float:
        """Compute the aggregate of some losses, at least one."""
        if self.kind == "top":
            return sum(map(operator.mul, self.weights(losses, losses), losses))
        most = max(losses)
        return most + self.temperature * math.log(sum(map(self._relative(most), losses)) / len(losses))

    def weights(self, some: Sequence[float], losses: Sequence[float]) -> list[float]:
        """Compute the weights of some rows: the derivatives of :meth:`value` with respect to their losses.

        Args:
            some: Losses of the rows, among ``losses``.
            losses: Losses of all rows of the global batch, at least one, in any order.
        """
        if self.kind == "worst":
            relative = self._relative(max(losses))
            total = sum(map(relative, losses))
            return [relative(loss) / total for loss in some]
        half = max(1, len(losses) // 2)
        edge = sorted(losses, reverse=True)[half - 1]
        shared = (half - sum(loss > edge for loss in losses)) / losses.count(edge)
        return [(1.0 if loss > edge else shared if loss == edge else 0.0) / half for loss in some]

    def _relative(self, most: float) -> Callable[[float], float]:
        return lambda loss: math.exp((loss - most) / self.temperature)

    def row_weights(
        self, loss: Callable[[Batch], LossParts], micros: Sequence[Batch]
    ) -> tuple[list[torch.Tensor], float]:
        """Compute the weights of this process's rows in a step; a collective call.

        Args:
            loss: Computes the loss parts of a micro-batch.
            micros: This process's micro-batches.

        Returns:
            The weights of every micro-batch, (B,), and the difference between the aggregate and the weighted sum of the
            losses of all processes' rows.
        """
        with torch.no_grad():
            found = [_row_losses(loss(rows_of(micro, micro.keys() - {"retain"})), micro) for micro in micros]
        losses = all_gather([each for total_B, real_B in found for each in total_B[real_B].tolist()])
        if not losses:
            return [torch.zeros_like(total_B) for total_B, _ in found], 0.0
        weights = [total_B.new_tensor(self.weights(total_B.tolist(), losses)) * real_B for total_B, real_B in found]
        return weights, self.value(losses) - sum(map(operator.mul, self.weights(losses, losses), losses))


def _row_losses(parts: LossParts, micro: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss of each row, (B,), and whether it is a row rather than a blank one."""
    terms = [part.weight * part.rows for part in parts.values() if part.rows is not None]
    stream = next(part.stream for part in parts.values() if part.rows is not None)
    return torch.stack(terms).sum(0), rows_with_targets(micro[stream]).bool()


def weighted(parts: LossParts, weights_B: torch.Tensor, counts: Counts) -> LossParts:  # noqa: N803
    """Replace the mean over rows by a weighted sum in the parts that have rows."""
    return {
        name: part if part.rows is None
        else replace(part, sum=(part.rows * weights_B).sum() * counts[part.stream]["row"])
        for name, part in parts.items()
    }  # fmt: skip
