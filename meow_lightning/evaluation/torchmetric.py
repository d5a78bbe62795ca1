"""Metrics as torchmetrics classes, for use inside a training loop and across processes.

Every row must reach exactly one process: a sampler that pads by repeating rows would count some twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from meow_lightning.types import AnswerRow


class RowMean(Metric):
    """Mean of a per-row value; processes exchange sums and counts, so it is never a mean of means.

    Args:
        value: Value of one row; ``None`` leaves the row out of sum and count.
    """

    full_state_update = False
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, value: Callable[[AnswerRow], float | None]) -> None:
        super().__init__()
        self.value = value
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, rows: Sequence[AnswerRow]) -> None:
        """Add ``rows`` to the running mean.

        Args:
            rows: Prediction rows of one set.
        """
        values = [value for row in rows if (value := self.value(row)) is not None]
        self.total += sum(values)
        self.count += len(values)

    def compute(self) -> torch.Tensor:
        """Mean over all rows of all processes, an fp64 scalar; NaN if no row counted."""
        return self.total / self.count


class RowValues(Metric):
    """Numbers that need the value of every row at once; processes exchange all values.

    Args:
        values: Values of rows, in order; it may check them.
        numbers: Computes numbers by name from the indices and values of all rows of all processes.
    """

    full_state_update = False
    index: list[torch.Tensor]
    collected: list[torch.Tensor]

    def __init__(
        self, values: Callable[[Sequence[AnswerRow]], list[float]],
        numbers: Callable[[list[int], list[float]], Mapping[str, float]],
    ) -> None:  # fmt: skip
        super().__init__()
        self.values, self.numbers = values, numbers
        self.add_state("index", default=[], dist_reduce_fx="cat")
        self.add_state("collected", default=[], dist_reduce_fx="cat")

    def update(self, rows: Sequence[AnswerRow]) -> None:
        """Add ``rows``, in any order.

        Args:
            rows: Prediction rows of one set; each ``index`` exactly once over all processes.
        """
        values = self.values(rows)
        self.index.append(torch.tensor([row.index for row in rows], dtype=torch.int64, device=self.device))
        self.collected.append(torch.tensor(values, dtype=torch.float64, device=self.device))

    def compute(self) -> dict[str, torch.Tensor]:
        """Compute the numbers, fp64 scalars by name."""
        # a process without rows contributes an empty fp32 tensor, which would turn the gathered indices into floats
        index = (dim_zero_cat(self.index) if len(self.index) else torch.zeros(0)).long()
        collected = dim_zero_cat(self.collected) if len(self.collected) else torch.zeros(0, dtype=torch.float64)
        numbers = self.numbers(index.tolist(), collected.tolist())
        return {name: torch.tensor(number, dtype=torch.float64) for name, number in numbers.items()}
