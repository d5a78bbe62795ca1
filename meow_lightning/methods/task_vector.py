"""Task vector negation: fine-tune on the forget set, then move the weights the opposite way (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from meow_lightning.config.ranges import Number, Range
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class TaskVector(BaseMethod):
    """Minimize L = CE(forget), then set theta = theta_start - a (theta_trained - theta_start) for every weight.

    "Editing Models with Task Arithmetic", Ilharco et al., ICLR 2023, section 3 (forgetting by negation). Training
    fits the forget set, so its curves describe the fine-tuned model and not the resulting one. Untrained weights do not
    change.

    Args:
        alpha: a, scale of the negated task vector, 0 or more; 0 returns the start model.
    """

    streams: tuple[str, ...] = ("forget",)

    def __init__(self, *, alpha: Annotated[Number, Range(0, 1000)]) -> None:
        self.alpha = alpha

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return one part: ``forget``."""
        return {"forget": cross_entropy(model, batch["forget"], stream="forget", weight=1.0)}

    def finalize(self, model: torch.nn.Module, start: Mapping[str, torch.Tensor]) -> None:
        """Negate the task vector, computed at least in fp32 and rounded once to each weight's dtype.

        Raises:
            ValueError: A trained weight has no counterpart in the start model.
        """
        import torch

        names: dict[torch.nn.Parameter, list[str]] = {}
        for name, weight in model.named_parameters(remove_duplicate=False):  # tied weights have several names
            names.setdefault(weight, []).append(name)
        prefix = f"{getattr(model, 'base_model_prefix', '')}."  # some checkpoints omit it
        with torch.no_grad():
            for weight, aliases in names.items():
                stored = next((name for name in _with_and_without(aliases, prefix) if name in start), None)
                if stored is None:
                    raise ValueError(f"the start model has no weight named {' or '.join(aliases)}")
                precision = torch.promote_types(weight.dtype, torch.float32)
                initial, trained = start[stored].to(weight.device, precision), weight.to(precision)
                weight.copy_(initial - self.alpha * (trained - initial))


def _with_and_without(names: list[str], prefix: str) -> list[str]:
    return [*names, *(name.removeprefix(prefix) for name in names)]
