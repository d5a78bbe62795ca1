"""Base class of stream builders: the rows of one stream as a function of the dataset and a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from meow_lightning.data.encoding import content_digest
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.types import Fact, Segments


class Chosen(NamedTuple):
    """An example that a builder chose from a split.

    Attributes:
        example: Its id.
        question: Id of the example of the forget set that it was chosen for.
        similarity: How alike their questions are, from 0 to 1.
    """

    example: str
    question: str
    similarity: float


class StreamBuilder:
    """Builds the rows of a stream.

    A method names its own in :attr:`meow_lightning.methods.base.BaseMethod.builders`. The rows depend on the dataset,
    the seed and the builder's options alone, so they are the same in every process and after an interruption.

    Attributes:
        splits: Splits of the dataset that it reads and that must not be empty.
        replies: Kind of its replies to the questions of the forget set, such as ``refusals to answer``; a dataset of
            passages, which has no questions, is then refused. ``None`` if passages are accepted.
        compared: Whether a method with ``reference = "logprobs"`` compares the rows with the start model.
        draws: Into how many equal parts its rows fall, one for each pass over the stream; 1 for the same in every pass.
    """

    splits: tuple[str, ...] = ()
    replies: ClassVar[str | None] = None
    compared: bool = True
    draws: int = 1

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows.

        Args:
            dataset: The examples.
            seed: Seed of the run, for random choices.
        """
        raise NotImplementedError

    def digest(self, dataset: Dataset, *, seed: int) -> str:
        """Digest the rows for the key of the model that is trained on them."""
        return content_digest([list(each) for each in self.segments(dataset, seed=seed)])

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return examples as many and as long as the rows of a pass, for estimates of memory and time."""
        rows = self.segments(dataset, seed=seed)
        rows = rows[: len(rows) // self.draws]
        return [Fact(id=str(place), question=row.prompt, answer=row.target) for place, row in enumerate(rows)]

    def checked_rows(self, dataset: Dataset, *, seed: int) -> Iterable[Segments]:
        """Return the rows that must fit into the model's context, which is checked before a run starts."""
        return self.segments(dataset, seed=seed)

    def chosen(self, dataset: Dataset, *, seed: int) -> list[Chosen]:
        """List the examples that it chose from a split, for the report; default: it chose none."""
        return []
