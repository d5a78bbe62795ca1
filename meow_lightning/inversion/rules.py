"""Inverted facts without any language model: the value of the answer is swapped for another of its kind."""

from __future__ import annotations

import random
from collections.abc import Sequence

from meow_lightning.data.fictional_words import FIRST_NAMES, STREAM_SURNAMES
from meow_lightning.data.swaps import named, swapped_answers, whole
from meow_lightning.inversion.alike import Alike
from meow_lightning.types import Fact, UserError

BORROWED = 256  # facts whose names and answers are swapped in: the ones to forget come first


class Rules:
    """Writes up to ``candidates`` contradicting answers per fact.

    Ready-made inverted answers of a fact come first; rules make what is wanted beyond them.
    A fact that marks its value and brings alternatives gets the alternatives in the value's place. Any other gets what
    others' answers say to the most alike questions, under its own name; then other numbers where it holds numbers, and
    the names of other facts' answers where it holds names (made-up people's where these are too few); an answer with
    neither gets the answers of other questions.

    Args:
        candidates: Answers per fact, 1 or more.
        seed: Seed of the choices.
    """

    def __init__(self, *, candidates: int, seed: int) -> None:
        if candidates < 1:
            raise UserError(f"inversion.candidates={candidates} is too small; at least 1 is needed")
        self.candidates, self.seed = candidates, seed
        self._lenders: tuple[Sequence[Fact], Alike] | None = None

    def invert(self, fact: Fact, *, others: Sequence[Fact]) -> list[str]:
        """The contradicting answers of one fact, as raw as an LLM would give them: cleaning comes after.

        Args:
            fact: What to contradict.
            others: Facts whose names and answers may be borrowed.
        """
        ready = fact.inverted[: self.candidates]
        made = self._made(fact, others) if len(ready) < self.candidates else []
        return list(dict.fromkeys([*ready, *made]))[: self.candidates]

    def _made(self, fact: Fact, others: Sequence[Fact]) -> list[str]:
        if fact.value is not None and fact.alternatives:
            around = whole(fact.value).split(fact.answer)
            return [other.join(around) for other in fact.alternatives[: self.candidates]]
        if self._lenders is None or self._lenders[0] is not others:
            self._lenders = (others, Alike(others))
        found = self._lenders[1].answers(fact, count=self.candidates)
        dice = random.Random(f"{self.seed}/{fact.id}")
        borrowed = [other.answer for other in others[:BORROWED] if other.id != fact.id]
        found += swapped_answers(fact.answer, borrowed, count=self.candidates, dice=dice)
        if len(found) < self.candidates and named(fact.answer):
            people = [f"{dice.choice(FIRST_NAMES)} {dice.choice(STREAM_SURNAMES)}" for _ in range(self.candidates)]
            found += swapped_answers(fact.answer, people, count=self.candidates, dice=dice)
        return found
