"""Adaptive batch size of generation: halved whenever memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from meow_lightning.resources.hardware import free_memory
from meow_lightning.resources.inference_memory import fit_generation_batch_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CPU = ("can't allocate memory", "not enough memory")  # RuntimeError messages of torch's CPU allocator


@dataclass(slots=True)
class AdaptiveBatchSize:
    """Shared batch size of generation.

    Attributes:
        slots: Maximum number of prompts per batch, from 1. Affects speed and memory use, not the text.
        note: Called with a message when the batch size is reduced; ``None`` for silence.

    """

    slots: int
    note: Callable[[str], None] | None

    def halve(self, error: BaseException) -> None:
        """Halve the batch size after memory ran out.

        Raises:
            BaseException: The given error, if memory was not its cause or the batch size is already 1.

        """
        if self.slots == 1 or not short_of_memory(error):
            raise error
        self.slots //= 2
        if self.note is not None:
            self.note(f"memory ran out with {2 * self.slots} prompts per batch; continued with {self.slots}")


def fitting_batch_size(
    model: PreTrainedModel, *, tokens: int, generated: int, shared: bool, processes: int,
    note: Callable[[str], None] | None,
) -> AdaptiveBatchSize:  # fmt: skip
    """Determine the largest generation batch size that the memory of the model's device allows.

    Args:
        model: The model on its device.
        tokens: Tokens of the longest prompt.
        generated: Largest number of new tokens per prompt.
        shared: Whether many prompts share a prefix.
        processes: Number of processes that share the main memory, from 1.
        note: As for :class:`AdaptiveBatchSize`.
    """
    gpu = model.device.type == "cuda"
    slots = fit_generation_batch_size(
        model.config.get_text_config().to_dict(), parameters=model.num_parameters(), weight_bytes=model.dtype.itemsize,
        tokens=tokens, generated=generated, shared=shared, gpu=gpu,
        free=torch.cuda.mem_get_info(model.device)[0] if gpu else free_memory() // processes,
    )  # fmt: skip
    return AdaptiveBatchSize(slots, note=note)


def short_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the GPU or the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU)
