"""AdamW and the memory-saving variants of bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from meow_lightning.errors import UserError
from meow_lightning.types import OptimizerName

if TYPE_CHECKING:
    import torch
# Fused updates pass over memory once, on a CPU in a quarter of the time, but round otherwise: small models keep theirs.
LARGE = 2**24
NAMES = {"adamw8bit": "AdamW8bit", "paged": "PagedAdamW"}  # class names in bitsandbytes.optim


def check_optimizer(name: OptimizerName, *, gpu: bool) -> None:
    """Check that an AdamW variant is available here.

    Args:
        name: The variant.
        gpu: Whether the weights will be on a GPU.

    Raises:
        UserError: It needs bitsandbytes, which is not installed, or a GPU.
    """
    if name != "adamw" and not (gpu and find_spec("bitsandbytes")):
        raise UserError(
            f"optim.optimizer={name} needs a GPU and the package bitsandbytes: pip install 'meow-lightning[gpu]', or "
            "set optim=adamw"
        )


def optimizer_of(name: OptimizerName, weights: Iterable[torch.nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """Create AdamW: torch's, or with two 8-bit moments per weight, or with paged 32-bit moments.

    torch's is fused for more than ``LARGE`` weights.

    bitsandbytes applies weight decay after the update, torch before it. It rounds 8-bit moments block by block, which
    can amplify last-bit differences (micro-batches, processes). Paged moments are moved between GPU and main memory by
    CUDA as needed; those of a resumed run stay on the GPU.

    Args:
        name: The variant.
        weights: The trained weights.
        settings: ``lr``, ``betas``, ``eps``, ``weight_decay``.

    Raises:
        UserError: The variant is unavailable here.
    """
    import torch

    check_optimizer(name, gpu=torch.cuda.is_available())
    if name == "adamw":
        every = list(weights)
        large = sum(weight.numel() for weight in every) > LARGE
        adamw = torch.optim.AdamW(every, fused=large or None, **settings)
        # Lightning refuses to clip gradients of optimizers that unscale them, which only float16 needs.
        adamw._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return adamw
    import bitsandbytes

    return getattr(bitsandbytes.optim, NAMES[name])(weights, **settings)
