"""Stream of refusals, to train instead of answers: this project's own sentences, or those of a user's file."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from meow_lightning.data.encoding import content_digest, training_segments
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.text_files import read_text
from meow_lightning.errors import UserError
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


def read_refusals(path: str | None) -> tuple[str, ...]:
    """Read the sentences of ``method.refusals``, one per line; blank lines are skipped.

    Args:
        path: The file; ``None`` for ``REFUSALS``.

    Raises:
        UserError: It is no text file, has no sentence, or has JSON lines.
    """
    if path is None:
        return REFUSALS
    where, give = f"method.refusals={path}", "a text file with one refusal or template answer per line"
    lines = [line.strip() for line in read_text(Path(path), where=where, give=give).splitlines()]
    sentences = tuple(line for line in lines if line)
    if not sentences:
        raise UserError(f"{where} is empty; give {give}")
    if sentences[0].startswith(("{", "[")):
        raise UserError(f"{where} has JSON, which would be trained as it is written; give {give}")
    return sentences


def refusals_from(path: str | None, *, epochs: int | None) -> Refusals:
    """Build the refusals that a method trains on.

    Args:
        path: The file of ``method.refusals``; ``None`` for ``REFUSALS``.
        epochs: Number of passes, each of which draws anew; ``None`` to draw once.

    Raises:
        UserError: The file cannot be used.
    """
    return Refusals(read_refusals(path), draws=1 if epochs is None else max(1, epochs))


def with_refusals(
    facts: Iterable[Example], seed: int, sentences: Sequence[str] = REFUSALS, *, draw: int = 0
) -> list[tuple[str, str]]:
    """Pair every training question with a refusal, in the order of :func:`~.encoding.training_segments`.

    Args:
        facts: The facts.
        seed: Seed of the choice of refusals.
        sentences: The refusals to choose from.
        draw: Number of the draw, from 0.
    """
    again = f"/{draw}" if draw else ""
    return [
        (question, random.Random(f"{seed}/{place}/{question}{again}").choice(sentences))
        for place, (question, *_) in enumerate(training_segments(facts))
    ]


class Refusals(StreamBuilder):
    """Every question of the forget set, in each of its phrasings, with a refusal drawn by the seed.

    Args:
        sentences: The refusals.
        draws: How often refusals are drawn: 1 for the same in every pass, or the number of passes.
    """

    replies: ClassVar[str | None] = "refusals to answer"

    def __init__(self, sentences: Sequence[str], *, draws: int) -> None:
        self.sentences, self.draws = sentences, draws

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows, in the order of the forget set, draw by draw."""
        return [Segments(*pair) for pair in self._pairs(dataset, seed)]

    def digest(self, dataset: Dataset, *, seed: int) -> str:
        """Digest the questions with their refusals."""
        return content_digest(self._pairs(dataset, seed))

    def examples(self, dataset: Dataset, *, seed: int) -> Sequence[Example]:
        """Return the forget set in the place of this project's own refusals, which are shorter; else the rows."""
        return dataset.facts("forget") if self.sentences is REFUSALS else super().examples(dataset, seed=seed)

    def checked_rows(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Return no row of this project's own refusals, which are short; else all."""
        return [] if self.sentences is REFUSALS else self.segments(dataset, seed=seed)

    def _pairs(self, dataset: Dataset, seed: int) -> list[tuple[str, str]]:
        facts = dataset.facts("forget")
        return [pair for draw in range(self.draws) for pair in with_refusals(facts, seed, self.sentences, draw=draw)]
