"""How work is split up, which of how many processes this is, and how they wait for each other.

One process needs no process group.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
DRIVER = "MEOW_DRIVER"  # environment variable of a distributed job: process@host of the driver it works for
# What launchers set; meant for our own jobs alone, and a container may bring them for reasons of its own.
LAUNCHED = ("RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
            "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")  # fmt: skip


def rank() -> int:
    """The number of this process in its job, from 0; 0 outside our jobs, whatever the environment says."""
    return int(os.environ.get("RANK", "0")) if DRIVER in os.environ else 0


def world_size() -> int:
    """How many processes work on this stage."""
    return int(os.environ.get("WORLD_SIZE", "1")) if DRIVER in os.environ else 1


def shard(items: Sequence[T]) -> list[T]:
    """The share of this process in some work: every world-th item from its rank on, so each is done exactly once."""
    return list(items[rank() :: world_size()])


def group_by(items: Iterable[T], *, key: Callable[[T], Hashable]) -> list[list[T]]:
    """The items with the same key together, each in their order; groups in the order of their first item."""
    found: dict[Hashable, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def chunk_groups(groups: Iterable[Sequence[T]], *, size: Callable[[T], int], least: int) -> Iterator[list[T]]:
    """The items of whole groups, taken together until their sizes reach ``least``; the last lot may have less."""
    lot: list[T] = []
    filled = 0
    for group in groups:
        lot += group
        filled += sum(map(size, group))
        if filled >= least:
            yield lot
            lot, filled = [], 0
    if lot:
        yield lot


def barrier(accelerator: str) -> None:
    """Wait until all processes are here; starts the process group on first use, over GPUs only where they compute."""
    if world_size() > 1:
        import torch

        if not torch.distributed.is_initialized():
            where = device(accelerator)
            if where.type == "cuda":
                torch.cuda.set_device(where)
            torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo")
        torch.distributed.barrier()


def all_gather(items: Sequence[T]) -> list[T]:
    """The items of all processes, those of process 0 first; every process has to ask."""
    if world_size() == 1:
        return list(items)
    import torch

    found: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(found, list(items))
    return [item for each in found for item in each]


def release_memory() -> None:
    """Give back the memory of what is gone, also where reference cycles hold it, and a GPU's kept beside."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def destroy_process_group() -> None:
    """Leave the job together: no process goes while another still talks to it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def check(accelerator: str, devices: int) -> None:
    """Nothing, when there is what to compute on.

    Raises:
        UserError: When a GPU is asked for and torch sees none, or more than torch sees.
    """
    if accelerator == "cpu":
        return
    import torch

    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and there == 0:
        raise UserError("trainer.accelerator=gpu, but torch sees no GPU; say trainer=cpu, or install a CUDA build")
    if there and devices > there:
        raise UserError(f"trainer.devices={devices}, but torch sees {there} GPUs; say trainer.devices={there}")


def device(accelerator: str) -> torch.device:
    """Where to compute: this process's GPU, unless the accelerator is ``cpu`` or there is none."""
    import torch

    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
