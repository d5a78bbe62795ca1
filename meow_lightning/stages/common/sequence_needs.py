"""The models of requests to forget that arrive one after another, as records for `evaluate` and `report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Generic, TypeVar

T = TypeVar("T")
_JOINT = "joint"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedInputs(Generic[T]):
    """A model after a request to forget, with what it is measured by.

    Attributes:
        model: The model.
        predictions: Its predictions on the evaluation sets.
        scores: MEMO scores of all true answers.
    """

    model: T
    predictions: T
    scores: T

    def to_needs(self, name: str) -> dict[str, T]:
        """Name every result for the stage, after the name of the model."""
        return {f"{name}/model": self.model, f"{name}/predict": self.predictions, f"{name}/score": self.scores}

    @classmethod
    def from_needs(cls, needs: Mapping[str, T], name: str) -> ServedInputs[T]:
        """Read the record back."""
        return cls(
            model=needs[f"{name}/model"], predictions=needs[f"{name}/predict"], scores=needs[f"{name}/score"]
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceInputs(Generic[T]):
    """The models of a run whose requests to forget arrive one after another.

    Attributes:
        requests: The model after every request, in order.
        joint: The model that forgets all facts at once.
    """

    requests: tuple[ServedInputs[T], ...]
    joint: ServedInputs[T]

    @property
    def all(self) -> tuple[ServedInputs[T], ...]:
        """The models after each request, and the joint one."""
        return (*self.requests, self.joint)

    def to_needs(self) -> dict[str, T]:
        """Name every result for the stage."""
        named = self.joint.to_needs(_JOINT)
        for number, each in enumerate(self.requests, start=1):
            named |= each.to_needs(_request(number))
        return named

    @classmethod
    def from_needs(cls, needs: Mapping[str, T]) -> SequenceInputs[T] | None:
        """Read the record back from a stage's needs; ``None`` for a run that forgets all facts at once."""
        numbers = takewhile(lambda number: f"{_request(number)}/model" in needs, count(1))
        requests = tuple(ServedInputs.from_needs(needs, _request(number)) for number in numbers)
        return cls(requests=requests, joint=ServedInputs.from_needs(needs, _JOINT)) if requests else None


def _request(number: int) -> str:
    return f"request/{number}"
