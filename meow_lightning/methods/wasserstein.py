"""Sliced Wasserstein distance of weights from the start model, as a regularizer around another method's loss."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING

from meow_lightning.data.streams.neighbours import Neighbours
from meow_lightning.methods.base import BaseMethod, PrepareContext
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class WassersteinMethod(BaseMethod):
    """L = L_inner + w * sum over trained tensors W of SW(W_start, W), with hard retain rows.

    SW is :func:`sliced_wasserstein` along unit directions that are drawn anew in every step. They depend on the seed,
    the number of the step and the width of the tensor alone: any number of processes and an interrupted training draw
    the same. Tensors are compared by name, whereas published code pairs two lists of parameters by position and keeps
    the start model in bf16, so that its distance is not 0 at the start (brightjade/Opt-Out). The sum is not normalised,
    as published: w has to be tuned with the size of the model. With adapters, the tensors are their factors.

    Sharded weights are gathered one tensor at a time. Per direction and row of a tensor, 12 bytes are kept for the
    backward pass.

    Args:
        inner: The method that provides loss, streams and reference; ``retain`` must be among its streams.
        neighbours: Nearest retain examples per question to forget; 0 for the whole retain set.
        wasserstein_weight: w, 0 or more.
        projections: Directions per tensor and step, 1 or more.
    """

    def __init__(self, inner: BaseMethod, *, neighbours: int, wasserstein_weight: float, projections: int) -> None:
        self.inner = inner
        self.streams, self.reference = inner.streams, inner.reference
        self.neighbours, self.wasserstein_weight, self.projections = neighbours, wasserstein_weight, projections
        if neighbours:
            self.builders = {"retain": Neighbours(neighbours)}
        self._seed = self._step = 0

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return the parts of the inner method."""
        return self.inner.loss(model, batch, reference)

    def prepare(self, ctx: PrepareContext) -> None:
        """Keep the seed."""
        self._seed = ctx.seed

    def regularizer(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Compute w * sum over trained tensors of SW; ``None`` for w = 0."""
        import torch

        if not self.wasserstein_weight:
            return None
        drawn: dict[int, torch.Tensor] = {}
        distances = []
        for name, weight in model.named_parameters():
            if name in start:
                rows, start_rows = (as_points(each) for each in (weight, start[name]))
                width = rows.shape[1]
                if width not in drawn:
                    drawn[width] = self._directions(width).to(rows)
                distances.append(sliced_wasserstein(rows, start_rows, drawn[width]))
        return self.wasserstein_weight * torch.stack(distances).sum()

    def _directions(self, width: int) -> torch.Tensor:
        """Draw the unit directions of this step, (width, projections), on the CPU."""
        import torch

        seed = Random(f"{self._seed}/{self._step}/{width}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(width, self.projections, generator=generator, dtype=torch.float64)
        return directions / directions.norm(dim=0)

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Count the step."""
        self._step += 1

    def state_dict(self) -> dict[str, float]:
        """Return ``step``."""
        return {"step": self._step}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore ``step``."""
        self._step = int(state["step"])


def sliced_wasserstein(points: torch.Tensor, start: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Compute (1 / m) * sum over m directions u of sum over i of (sort(P_start u)_i - sort(P u)_i)^2, a scalar.

    The squared 2-Wasserstein distance of two sets of n points is taken along each direction and not divided by n, as in
    published code (brightjade/Opt-Out). A permutation of the rows costs nothing; a single row that moves by d costs
    |d|^2 / width on average.

    Args:
        points: The rows of a tensor, shape (n, width).
        start: Those of the start model.
        directions: Unit vectors as columns, shape (width, m).
    """
    moved = (start @ directions).sort(dim=0).values - (points @ directions).sort(dim=0).values
    return moved.square().sum() / directions.shape[1]


def as_points(weight: torch.Tensor) -> torch.Tensor:
    """Return a tensor's rows as points, (n, width), at least in fp32; a vector is one point. Shards are gathered."""
    import torch
    from torch.distributed.tensor import DTensor

    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    whole = whole.to(torch.promote_types(whole.dtype, torch.float32))
    return whole.flatten(1) if whole.dim() > 1 else whole.reshape(1, -1)
