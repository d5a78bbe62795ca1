"""Ranges of numeric options, written beside the type of an option: ``beta: Annotated[float, Range(0, 1)]``."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Range(NamedTuple):
    """An interval of finite numbers, with both ends included by default.

    Attributes:
        low: Lower end.
        high: Upper end; for a number without a natural limit, far above any useful value.
        above: Whether the lower end itself is excluded.
        below: Whether the upper end itself is excluded.
        zero: Whether 0 is allowed in addition.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    zero: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether a number is finite and in the interval."""
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        above = value > self.low if self.above else value >= self.low
        below = value < self.high if self.below else value <= self.high
        return (above and below) or (self.zero and value == 0)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Add the check to the schema of the annotated type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: float) -> float:
        if value not in self:
            raise PydanticCustomError("range", "out of range")
        return value

    def describe(self, *, entry: float | None = None) -> str:
        """Describe the numbers of the range.

        Args:
            entry: The first entry of a list outside the range; ``None`` if the value is no list.
        """
        if self is FINITE:
            return "a finite number" if entry is None else f"finite numbers, not {entry}"
        low, high = (f"{end:g}" if isinstance(end, float) else f"{end:,}" for end in (self.low, self.high))
        if not self.above and not self.below:
            interval = f"from {low} to {high}"
        else:
            least = f"above {low}" if self.above else f"of at least {low}"
            interval = f"{least} and {'below' if self.below else 'at most'} {high}"
        interval = f"{interval}, or 0" if self.zero else interval
        return f"a number {interval}" if entry is None else f"numbers {interval}, not {entry}"


MANY = 10**9  # above every useful count of rows, steps, tokens or seconds
LARGEST = 3e38  # about the largest float32, the format that most numbers are used in
FINITE = Range(-LARGEST, LARGEST)  # for numbers without a range of their own, such as those of a user's own method

Number = int | float  # keeps an integer an integer, and with it the key of a result
Finite = Annotated[Number, FINITE]
# numpy accepts at most 32 bits, and further seeds are derived by adding to this one
Seed = Annotated[int, Range(0, 2**31 - 1)]
Count = Annotated[int, Range(1, MANY)]
CountOrZero = Annotated[int, Range(0, MANY)]
Retries = Annotated[int, Range(0, 1000)]
Positive = Annotated[Number, Range(0, 1e6, above=True)]
NonNegative = Annotated[Number, Range(0, 1e6)]
Seconds = Positive
Probability = Annotated[Number, Range(0, 1, above=True)]
Threshold = Annotated[Number, Range(0, 1, below=True)]
Temperature = Annotated[Number, Range(1e-3, 100, zero=True)]
LearningRate = Annotated[Number, Range(0, 1)]
Epochs = Annotated[int, Range(0, 10**6)]
