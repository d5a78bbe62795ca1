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
    """A function that computes some rows and calls ``progress`` with the number of units done so far."""

    def __call__(self, numbers: Sequence[int], progress: Callable[[int], None]) -> Iterable[Numbered]:
        """Yield the number and the row for each of the numbers, in any order."""
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
    """Write rows 0, 1, … to the file ``name``, each process its share, resuming after a kill.

    A chunk is computed completely or not at all: the last bits of a row depend on the rows in its batch, so a resumed
    run must form the same batches as an uninterrupted one.

    Args:
        work: The stage's context.
        groups: Row numbers; one process computes the rows of a group together.
        sizes: Size of each row, in ``unit``.
        least: Smallest size of a chunk, in ``unit``; a killed run loses at most about as much.
        unit: Unit that the progress counts.
        name: File within the stage's folder.
        make: Computes the rows of a chunk.

    Raises:
        RuntimeError: Finished rows were lost on the disk.
    """
    parts = work.parts(index="number")
    barrier(work.runtime.accelerator)
    share, total = shard(groups), sum(sizes)
    own_units = max(1, sum(sizes[number] for group in share for number in group))
    done = 0
    for numbers in chunk_groups(share, size=sizes.__getitem__, minimum=least):

        def report_progress(units: int, before: int = done) -> None:
            # Assumes that the other processes are about as far.
            work.progress(round((before + units) / own_units * total), total, unit)

        missing = not all(number in parts.done for number in numbers)
        if missing:
            report_progress(0)  # start the ETA after resumed rows
            parts.add({"number": number, **asdict(row)} for number, row in make(numbers, report_progress))
        done += sum(sizes[number] for number in numbers)
        if missing:
            report_progress(0, done)
    barrier(work.runtime.accelerator)
    if rank() == 0 and len(parts.merge(work.folder / name)) != len(sizes):
        raise RuntimeError(f"rows of {name} were lost on the disk during the computation; run again to recompute them")


def adaptive_batch_size(
    work: StageContext, model: PreTrainedModel, *, tokens: int, generated: int, shared: bool
) -> AdaptiveBatchSize:
    """Determine the generation batch size of this process: as configured, or as large as memory allows.

    Args:
        work: The stage's context; it records a warning if memory runs out nevertheless.
        model: The model on its device.
        tokens: Tokens of the longest prompt.
        generated: Largest number of new tokens per prompt.
        shared: Whether many prompts share a prefix.
    """
    from meow_lightning.generation.batch_size import AdaptiveBatchSize, fitting_batch_size

    if work.runtime.generation_batch_size is not None:
        return AdaptiveBatchSize(work.runtime.generation_batch_size, note=work.warn)
    return fitting_batch_size(
        model, tokens=tokens, generated=generated, shared=shared, processes=world_size(), note=work.warn
    )
