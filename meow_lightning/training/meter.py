"""Throughput and memory of a training, as points of its curve; neither affects a result."""

from __future__ import annotations

import time

import psutil
import torch

TOKENS_PER_SECOND, MEMORY = "tokens_per_second", "memory_mib"


class Meter:
    """Counts the tokens of the steps since the last point, and the seconds spent in them.

    Probes, checkpoints and waiting for data between steps are not counted.

    Attributes:
        tokens: Tokens of this process since the last point, prompts included, padding excluded.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._seconds = self._begun = 0.0

    def begin(self, tokens: int) -> None:
        """Start a step.

        Args:
            tokens: Tokens of this process's rows in the step, prompts included, padding excluded.
        """
        self._begun = time.perf_counter()
        self.tokens += tokens

    def end(self) -> None:
        """End a step."""
        self._seconds += time.perf_counter() - self._begun

    def read(self, tokens: float, device: torch.device) -> dict[str, float]:
        """Return the values of a point, and begin the next one.

        Args:
            tokens: Tokens of all processes since the last point.
            device: Device of the training.

        Returns:
            ``tokens_per_second``, and ``memory_mib``: on a GPU the peak of allocated memory so far, elsewhere the
            memory of this process, in MiB.
        """
        rate = tokens / max(self._seconds, 1e-9)
        self.tokens, self._seconds = 0, 0.0
        used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
        return {TOKENS_PER_SECOND: rate, MEMORY: used / 2**20}
