"""Parts of datasets: the first examples, to run the whole pipeline in seconds, and evenly spaced ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from meow_lightning.data.examples import Dataset, EvalSet, Example
from meow_lightning.data.requests import groups_of
from meow_lightning.types import Segments

T = TypeVar("T")


class LimitedDataset:
    """A dataset truncated to the first ``limit`` examples of every split and evaluation set.

    Args:
        dataset: The dataset to truncate.
        limit: Examples per split, 1 or more.
    """

    def __init__(self, *, dataset: Dataset, limit: int) -> None:
        self.dataset, self.limit = dataset, limit
        self.name, self.public = dataset.name, dataset.public

    def facts(self, split: str) -> Sequence[Example]:
        """Return the first examples of a split; evaluated ones to retain come first, so that they are trained."""
        examples = self.dataset.facts(split)
        if split == "retain":
            evaluated = {one.id for each in self.evaluation().values() if each.purpose == "retain" for one in each}
            examples = sorted(examples, key=lambda one: one.id not in evaluated)
        return examples[: self.limit]

    def evaluation(self) -> dict[str, EvalSet]:
        """Return the first examples of every evaluation set."""
        sets = self.dataset.evaluation()
        return {name: replace(each, examples=each[: self.limit]) for name, each in sets.items()}

    def groups(self) -> Mapping[str, Mapping[str, str]]:
        """Delegate to the dataset; it may group more facts than are left."""
        return groups_of(self.dataset)

    def pretraining_examples(self, rows: int, seed: int) -> Sequence[Example]:
        """Delegate to the dataset."""
        return self.dataset.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> Sequence[tuple[str, str] | Segments]:
        """Delegate to the dataset."""
        return self.dataset.tokenizer_corpus()

    def caveats(self) -> tuple[str, ...]:
        """Delegate to the dataset."""
        return self.dataset.caveats()


def evenly_spaced(items: Sequence[T], limit: int | None) -> list[T]:
    """Select ``limit`` items at equal distances, floor(i n / limit) for i = 0, 1, …; all of them if there are no more.

    Args:
        items: Items, n of them.
        limit: Maximum number, 1 or more; ``None`` for all.
    """
    count = len(items) if limit is None else min(limit, len(items))
    return [items[place * len(items) // count] for place in range(count)]
