"""A dataset cut short, so that the whole path can be walked in seconds."""

from __future__ import annotations

from meow_lightning.types import Dataset, Fact


class Limited:
    """The first ``limit`` facts of every split and evaluation set of a dataset; everything else is the dataset's.

    Args:
        dataset: What to cut.
        limit: Facts of each, 1 or more.
    """

    def __init__(self, *, dataset: Dataset, limit: int) -> None:
        self.dataset, self.limit = dataset, limit
        self.name, self.public = dataset.name, dataset.public

    def facts(self, split: str) -> list[Fact]:
        """The first facts of a split; of the retain set the evaluated ones come first, so that these are trained."""
        facts = self.dataset.facts(split)
        if split == "retain":
            asked = {fact.id for fact in self.evaluation().get("retain", [])}
            facts = sorted(facts, key=lambda fact: fact.id not in asked)
        return facts[: self.limit]

    def evaluation(self) -> dict[str, list[Fact]]:
        """The first facts of every evaluation set."""
        return {name: facts[: self.limit] for name, facts in self.dataset.evaluation().items()}

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        """What the dataset says."""
        return self.dataset.pretraining_examples(rows, seed)

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        """What the dataset says."""
        return self.dataset.tokenizer_corpus()

    def caveats(self) -> tuple[str, ...]:
        """What the dataset says."""
        return self.dataset.caveats()
