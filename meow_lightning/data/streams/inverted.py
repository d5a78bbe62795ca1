"""Stream of inverted facts, which are selected by their scores before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.types import InvertedFact, Segments


class Inverted(StreamBuilder):
    """The selected inverted facts; while a run is planned, ready-made ones of the dataset stand in for them.

    Args:
        selected: The selection, one per row; empty before it is made.
    """

    replies: ClassVar[str | None] = "inverted answers to"

    def __init__(self, selected: Sequence[InvertedFact]) -> None:
        self.selected = selected

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build one row per selected fact."""
        return [Segments(each.question, each.answer) for each in self.selected]

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return the facts to invert."""
        return dataset.facts("forget")

    def checked_rows(self, dataset: Dataset, *, seed: int) -> Iterator[Segments]:
        """Yield the ready-made inverted facts."""
        for fact in dataset.facts("forget"):
            yield from (fact.segments._replace(target=answer) for answer in fact.inverted)
