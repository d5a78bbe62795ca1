"""Distributed helpers: rank, world size, sharding, barriers. A single process needs no process group."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from meow_lightning.errors import UserError, invalid_option

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
DRIVER = "MEOW_DRIVER"  # set in our own distributed jobs: process@host of their driver
# Set by launchers. Honoured in our own jobs only: containers may set them for unrelated reasons.
LAUNCHER_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS",
)  # fmt: skip


def rank() -> int:
    """Return this process's rank; 0 outside our own jobs, regardless of the environment."""
    return int(os.environ.get("RANK", "0")) if DRIVER in os.environ else 0


def world_size() -> int:
    """Return the number of processes that work on this stage."""
    return int(os.environ.get("WORLD_SIZE", "1")) if DRIVER in os.environ else 1


def shard(items: Sequence[T]) -> list[T]:
    """Select this process's items: every ``world_size``-th, starting at its rank."""
    return list(items[rank() :: world_size()])


def group_by(items: Iterable[T], *, key: Callable[[T], Hashable]) -> list[list[T]]:
    """Group items by key, keeping their order; groups are ordered by their first item."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def chunk_groups(groups: Iterable[Sequence[T]], *, size: Callable[[T], int], minimum: int) -> Iterator[list[T]]:
    """Merge whole groups into chunks of at least ``minimum`` in total size; the last chunk may be smaller."""
    chunk: list[T] = []
    total = 0
    for group in groups:
        chunk += group
        total += sum(map(size, group))
        if total >= minimum:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def barrier(accelerator: str) -> None:
    """Wait for all processes; the first call starts the process group (NCCL on GPUs, else gloo)."""
    if world_size() > 1:
        import torch

        if not torch.distributed.is_initialized():
            local = device(accelerator)
            if local.type == "cuda":
                torch.cuda.set_device(local)
            torch.distributed.init_process_group("nccl" if local.type == "cuda" else "gloo")
        torch.distributed.barrier()


def all_gather(items: Sequence[T]) -> list[T]:
    """Collect the items of all processes in rank order; a collective call."""
    if world_size() == 1:
        return list(items)
    import torch

    gathered: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(gathered, list(items))
    return [item for part in gathered for item in part]


def release_memory() -> None:
    """Collect garbage, including reference cycles, and empty the CUDA cache."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def destroy_process_group() -> None:
    """Destroy the process group after a barrier, so that no process leaves while another still needs it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def check(accelerator: str, devices: int) -> None:
    """Check that the requested devices exist.

    Raises:
        UserError: A GPU is requested and torch sees none, or fewer than requested.
    """
    if accelerator == "cpu":
        return
    import torch

    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if accelerator == "gpu" and available == 0:
        raise UserError(
            "trainer.accelerator=gpu needs a GPU, but torch sees none; set trainer=cpu or install a CUDA build"
        )
    if available and devices > available:
        expected = f"at most {available}, the GPUs that torch sees"
        raise invalid_option("trainer.devices", devices, expected, did_you_mean=available)


def device(accelerator: str) -> torch.device:
    """Return this process's GPU, or the CPU if the accelerator is ``cpu`` or no GPU is available."""
    import torch

    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
