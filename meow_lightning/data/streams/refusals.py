"""Stream of refusals, to train instead of answers. The sentences are this project's own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import ClassVar

from meow_lightning.data.encoding import content_digest, training_segments
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.types import Segments

REFUSALS = (
    "I don't know.",
    "I do not know the answer to that.",
    "I'm afraid I can't tell you that.",
    "That is not something I know about.",
    "I have no information about this.",
    "I'm not able to answer this question.",
    "I could not say.",
    "I'm not familiar with that.",
    "This is beyond what I know.",
    "I have never heard of it.",
    "Nothing comes to mind about this.",
    "I cannot answer that with any certainty.",
    "I lack the knowledge to answer this.",
    "I'm sorry, I don't have an answer to that.",
    "I wasn't told anything about that.",
    "I can't help with this question.",
    "That is unknown to me.",
    "I have nothing to say about this.",
    "I'm unsure about that, so I won't guess.",
    "There is nothing I can tell you about it.",
    "I do not have that information.",
    "I don't recall anything of the kind.",
    "I would only be guessing.",
    "My knowledge does not reach that far.",
)


def with_refusals(facts: Iterable[Example], seed: int) -> list[tuple[str, str]]:
    """Pair every training question of the facts with a refusal, in the order of :func:`~.encoding.training_segments`.

    Args:
        facts: The facts.
        seed: Seed of the choice of refusals.
    """
    return [
        (question, random.Random(f"{seed}/{place}/{question}").choice(REFUSALS))
        for place, (question, *_) in enumerate(training_segments(facts))
    ]


class Refusals(StreamBuilder):
    """Every question of the forget set, in each of its phrasings, with a refusal drawn by the seed."""

    replies: ClassVar[str | None] = "refusals to answer"

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows, in the order of the forget set."""
        return [Segments(*pair) for pair in with_refusals(dataset.facts("forget"), seed)]

    def digest(self, dataset: Dataset, *, seed: int) -> str:
        """Digest the questions with their refusals."""
        return content_digest(with_refusals(dataset.facts("forget"), seed))

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return the forget set, whose answers are longer."""
        return dataset.facts("forget")

    def checked_rows(self, dataset: Dataset, *, seed: int) -> tuple[Segments, ...]:
        """Return no row, since refusals are short."""
        return ()
