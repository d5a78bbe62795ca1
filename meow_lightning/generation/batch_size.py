"""Adaptive batch size of generation: halved whenever memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

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


def short_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on the GPU or the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU)
