"""Demonstrations: retain facts that a prompt shows as answered questions before the one that it asks."""

from __future__ import annotations

import random
from functools import lru_cache

from meow_lightning.data.values.borrowing import SimilarQuestions
from meow_lightning.inversion.base import DatasetFacts
from meow_lightning.inversion.filters import words_of
from meow_lightning.types import Fact

POOL = 4  # retain facts to draw from, as a multiple of the number drawn
DEMONSTRATION_LENGTH, MORE = (
    2,
    8,
)  # maximum length of a demonstrated answer: so many times the true answer's words, and so many more


class Demonstrations:
    """Random draws from the retain facts whose questions resemble a given one.

    Only retain facts are shown, with answers about as long as the true one. Where too few questions are similar, other
    retain facts are drawn in addition.

    Args:
        facts: The dataset's facts; those to forget only help to identify the questions' subjects.
        count: Facts per draw, 1 or more; fewer if the dataset has fewer.
    """

    def __init__(self, facts: DatasetFacts, *, count: int) -> None:
        self._retain, self._count = facts.retain, count
        self._similar = SimilarQuestions(facts.retain, facts.forget)

    def draw(self, fact: Fact, rng: random.Random) -> list[Fact]:
        """Draw the demonstrations of one prompt, the least similar ones first."""
        others, similar = self._pools(fact)
        drawn = rng.sample(similar, min(self._count, len(similar)))
        missing = self._count - len(drawn)
        return [*rng.sample(others, min(missing, len(others))), *drawn]

    @lru_cache(maxsize=4096)  # noqa: B019 - the cache lives as long as the facts it reads
    def _pools(self, fact: Fact) -> tuple[list[Fact], list[Fact]]:
        longest = DEMONSTRATION_LENGTH * len(words_of(fact.answer)) + MORE
        similar: list[Fact] = []
        for other in self._similar.facts(fact):
            if len(words_of(other.answer)) <= longest:
                similar.append(other)
            if len(similar) == POOL * self._count:
                break
        used = {each.id for each in similar}
        return [each for each in self._retain if each.id not in used], similar
