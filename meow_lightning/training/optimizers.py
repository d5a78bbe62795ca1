"""AdamW and its thriftier kinds by bitsandbytes: what each needs, and how one is made."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from meow_lightning.errors import UserError
from meow_lightning.types import OptimizerName

if TYPE_CHECKING:
    import torch
NAMES = {"adamw8bit": "AdamW8bit", "paged": "PagedAdamW"}  # by name, in bitsandbytes.optim


def check_optimizer(name: OptimizerName, *, gpu: bool) -> None:
    """Nothing, when a kind of AdamW can be had here.

    Args:
        name: Which.
        gpu: Whether the weights will be on a GPU.

    Raises:
        UserError: It is one of bitsandbytes, and that is not installed, or there is no GPU.
    """
    if name != "adamw" and not (gpu and find_spec("bitsandbytes")):
        raise UserError(
            f"optim.optimizer={name} needs a GPU and the package bitsandbytes: pip install 'meow-lightning[gpu]', or "
            "say optim=adamw"
        )


def optimizer_of(name: OptimizerName, weights: Iterable[torch.nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """AdamW over some weights: torch's, or with two 8-bit moments per weight, or with paged 32-bit ones.

    bitsandbytes decays weights after the update, torch before it. It rounds 8-bit moments block by block, so that what
    differs in the last bits (micro-batches, processes) may show in more of them. Paged moments lie in memory that CUDA
    moves between GPU and machine as there is room; those of a resumed run stay on the GPU.

    Args:
        name: Which.
        weights: What is trained.
        settings: ``lr``, ``betas``, ``eps``, ``weight_decay``.

    Raises:
        UserError: The kind cannot be had here.
    """
    import torch

    check_optimizer(name, gpu=torch.cuda.is_available())
    if name == "adamw":
        return torch.optim.AdamW(weights, **settings)
    import bitsandbytes

    return getattr(bitsandbytes.optim, NAMES[name])(weights, **settings)
