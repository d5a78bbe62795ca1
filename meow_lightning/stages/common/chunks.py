"""Work through numbered groups in resumable chunks, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from meow_lightning.distributed import barrier, chunk_groups, rank, shard, world_size
from meow_lightning.stages.base import StageContext

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.generation.batch_size import AdaptiveBatchSize

Numbered = tuple[int, Any]  # a row's number and the row, a dataclass


class Make(Protocol):
    """Makes some rows; ``progress`` is called with how many units of them are done."""

    def __call__(self, numbers: Sequence[int], progress: Callable[[int], None]) -> Iterable[Numbered]:
        """(number, row) of each of the numbers, in any order."""
        ...


def in_chunks(
    work: StageContext,
    groups: Sequence[Sequence[int]],
    *,
    sizes: Sequence[int],
    least: int,
    unit: str,
    name: str,
    make: Make,
) -> None:
    """Write rows 0, 1, … to the file ``name``, each process its share, going on after a kill.

    A chunk is done whole or not at all: rows computed beside other rows differ in the last bits, and a resumed run must
    batch as an undisturbed one does.

    Args:
        work: The stage's task.
        groups: Numbers of rows; what one holds is made together, by one process.
        sizes: By row, its size in ``unit``.
        least: Units of a chunk: what a killed run may lose, at most, but for the size of a group.
        unit: What is counted in the progress.
        name: File within the stage's folder.
        make: Makes the rows of a chunk.
    """
    parts = work.parts(index="number")
    barrier(work.runtime.accelerator)
    share, total = shard(groups), sum(sizes)
    ours = max(1, sum(sizes[number] for group in share for number in group))
    done = 0
    for numbers in chunk_groups(share, size=sizes.__getitem__, least=least):

        def tell(units: int, before: int = done) -> None:
            work.progress(round((before + units) / ours * total), total, unit)  # the others are as far, by and large

        lacking = not all(number in parts.done for number in numbers)
        if lacking:
            tell(0)  # the clock of whoever watches starts behind what was found
            parts.add({"number": number, **asdict(row)} for number, row in make(numbers, tell))
        done += sum(sizes[number] for number in numbers)
        if lacking:
            tell(0, done)
    barrier(work.runtime.accelerator)
    if rank() == 0 and len(parts.merge(work.folder / name)) != len(sizes):
        raise RuntimeError(f"rows of {name} were lost on the disk while it was made; run again to make them anew")


def adaptive_batch_size(
    work: StageContext, model: PreTrainedModel, *, tokens: int, generated: int, shared: bool
) -> AdaptiveBatchSize:
    """How many prompts this process continues side by side: what the run says, or what memory allows.

    Args:
        work: The stage's task; it is told when memory runs out all the same.
        model: On its device.
        tokens: Tokens of the longest prompt.
        generated: Most new tokens of a prompt.
        shared: Whether many prompts begin alike.
    """
    import torch

    from meow_lightning.generation.batch_size import AdaptiveBatchSize
    from meow_lightning.resources.hardware import free_memory
    from meow_lightning.resources.inference_memory import fit_generation_batch_size

    if work.runtime.generation_batch_size is not None:
        return AdaptiveBatchSize(work.runtime.generation_batch_size, note=work.warn)
    gpu = model.device.type == "cuda"
    slots = fit_generation_batch_size(
        model.config.get_text_config().to_dict(), parameters=model.num_parameters(), weight_bytes=model.dtype.itemsize,
        tokens=tokens, generated=generated, shared=shared, gpu=gpu,
        free=torch.cuda.mem_get_info(model.device)[0] if gpu else free_memory() // world_size(),
    )  # fmt: skip
    return AdaptiveBatchSize(slots, note=work.warn)
