"""A truncated dataset, to run the whole pipeline in seconds."""

from __future__ import annotations

from meow_lightning.types import Dataset, Fact


class LimitedDataset:
    """A dataset truncated to the first ``limit`` facts of every split and evaluation set.

    Args:
        dataset: The dataset to truncate.
        limit: Facts per split, 1 or more.
    """

    def __init__(self, *, dataset: Dataset, limit: int) -> None:
        self.dataset, self.limit = dataset, limit
        self.name, self.public = dataset.name, dataset.public

    def facts(self, split: str) -> list[Fact]:
        """Return the first facts of a split; evaluated retain facts come first, so that they are trained."""
        facts = self.dataset.facts(split)
        if split == "retain":
            evaluated = {fact.id for fact in self.evaluation().get("retain", [])}
            facts = sorted(facts, key=lambda fact: fact.id not in evaluated)
        return facts[: self.limit]

    def evaluation(self) -> dict[str, list[Fact]]:
        """Return the first facts of every evaluation set."""
        return {name: facts[: self.limit] for name, facts in self.dataset.evaluation().items()}

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """Delegate to the dataset."""
        return self.dataset.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """Delegate to the dataset."""
        return self.dataset.tokenizer_corpus()

    def caveats(self) -> tuple[str, ...]:
        """Delegate to the dataset."""
        return self.dataset.caveats()
