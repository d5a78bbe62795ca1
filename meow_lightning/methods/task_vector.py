"""Task vectors: learn the forget set even better, then walk the other way (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class TaskVector(BaseMethod):
    """L = CE(forget), descended; in the end theta = theta_start - a (theta_trained - theta_start) for every weight.

    "Editing Models with Task Arithmetic", Ilharco et al., ICLR 2023, section 3 (forgetting by negation). The training
    learns what is to be forgotten: curves during it show a model that knows more, not the one that comes out. Weights
    that training left alone stay as they are.

    Args:
        alpha: a, how far the other way, 0 or more; 0 gives the start model back.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget",)

    def __init__(self, *, alpha: float) -> None:
        self.alpha = alpha

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """One part: ``forget``."""
        return {"forget": cross_entropy(model, batch["forget"], stream="forget", weight=1.0)}

    def finish(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Nothing; every weight is mirrored at its start, in fp32 at least, rounded once to its own precision.

        Raises:
            ValueError: The start model has no weight of a trained one's name.
        """
        import torch

        names: dict[torch.nn.Parameter, list[str]] = {}
        for name, weight in model.named_parameters(remove_duplicate=False):  # tied weights have several names
            names.setdefault(weight, []).append(name)
        prefix = f"{getattr(model, 'base_model_prefix', '')}."  # some checkpoints leave it out
        with torch.no_grad():
            for weight, known in names.items():
                stored = next((each for each in _spelled(known, prefix) if each in start), None)
                if stored is None:
                    raise ValueError(f"the start model has no weight named {' or '.join(known)}")
                precision = torch.promote_types(weight.dtype, torch.float32)
                first, trained = start[stored].to(weight.device, precision), weight.to(precision)
                weight.copy_(first - self.alpha * (trained - first))


def _spelled(names: list[str], prefix: str) -> list[str]:
    return [*names, *(name.removeprefix(prefix) for name in names)]
