"""Which of how many processes this is, and how they wait for each other. One process needs no process group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from meow_lightning.types import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes work on this stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def mine(items: Sequence[T]) -> list[T]:
    """The share of this process in some work: every world-th item from its rank on, so each is done exactly once."""
    return list(items[rank() :: world()])


def chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items cut into runs of ``size``, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def barrier() -> None:
    """Wait until all processes are here; starts the process group on first use."""
    if world() > 1:
        import torch

        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        torch.distributed.barrier()


def check(accelerator: str) -> None:
    """Nothing, when there is what to compute on.

    Raises:
        UserError: When a GPU is asked for and torch sees none.
    """
    if accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise UserError("trainer.accelerator=gpu, but torch sees no GPU; say trainer=cpu, or install a CUDA build")


def device(accelerator: str) -> torch.device:
    """Where to compute: this process's GPU, unless the accelerator is ``cpu`` or there is none."""
    import torch

    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
