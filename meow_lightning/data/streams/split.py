"""Stream of a split: the forget set, the retain set."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of, training_segments
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.types import Segments


class Split(StreamBuilder):
    """The examples of a split with their further phrasings.

    Args:
        name: Name of the split. Rows of ``retain`` are not compared with the start model.
    """

    def __init__(self, name: str) -> None:
        self.name, self.splits, self.compared = name, (name,), name != "retain"

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows, in the order of the split."""
        return training_segments(dataset.facts(self.name))

    def digest(self, dataset: Dataset, *, seed: int) -> str:
        """Digest what training reads of the examples."""
        return digest_of(dataset.facts(self.name), TRAINED_FIELDS)

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return the split itself."""
        return dataset.facts(self.name)

    def checked_rows(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Return the examples without their further phrasings."""
        return [example.segments for example in dataset.facts(self.name)]
