"""How many prompts are continued side by side: fewer once memory has run out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

CPU = ("can't allocate memory", "not enough memory")  # what torch's allocator of the CPU says in a RuntimeError


@dataclass(slots=True)
class AdaptiveBatchSize:
    """Slots that whoever shares this object works with.

    Attributes:
        slots: Most prompts side by side, from 1. Changes speed and memory, not the text.
        note: Told in words when they become fewer; ``None`` where nobody listens.

    """

    slots: int
    note: Callable[[str], None] | None

    def halve(self, error: BaseException) -> None:
        """Half the slots after memory ran out.

        Raises:
            BaseException: The error itself, when it says something else or a single slot was too much.

        """
        if self.slots == 1 or not short_of_memory(error):
            raise error
        self.slots //= 2
        if self.note is not None:
            self.note(f"memory ran out with {2 * self.slots} prompts side by side; went on with {self.slots}")


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of a GPU or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in CPU)
