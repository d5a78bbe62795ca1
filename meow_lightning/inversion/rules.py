"""Inverted facts without any language model: the value of the answer is swapped for another of its kind."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

from meow_lightning.data.fictional_words import FIRST_NAMES, STREAM_SURNAMES
from meow_lightning.data.swaps import named, swapped_answers, whole
from meow_lightning.inversion.alike import Alike
from meow_lightning.inversion.clean import reason
from meow_lightning.inversion.writer import Ask, GoOn, Others, Reply, Writer
from meow_lightning.types import Fact, UserError

BORROWED = 256  # facts whose names and answers are swapped in: the ones to forget come first


class Rules(Writer):
    """Writes up to ``candidates`` contradicting answers per fact; asked again, others than before.

    Ready-made inverted answers of a fact come first; rules make what is wanted beyond them.
    A fact that marks its value and brings alternatives gets the alternatives in the value's place. Any other gets what
    others' answers say to the most alike questions, under its own name; then other numbers where it holds numbers, and
    the names of other facts' answers where it holds names (made-up people's where these are too few); an answer with
    neither gets the answers of other questions.

    Args:
        candidates: Answers per fact, 1 or more.
        seed: Seed of the choices.
    """

    borrows: ClassVar[bool] = True

    def __init__(self, *, candidates: int, seed: int) -> None:
        if candidates < 1:
            raise UserError(f"inversion.candidates={candidates} is too small; at least 1 is needed")
        self.candidates, self.seed = candidates, seed
        self._lenders: tuple[Sequence[Fact], Alike] | None = None

    def write(self, asks: Sequence[Ask], *, others: Others, go_on: GoOn) -> Iterator[Reply]:
        """The contradicting answers to each question, as raw as an LLM would give them: cleaning comes after."""
        lenders = others()
        for ask in asks:
            if not go_on():
                return
            found = self.invert(ask.fact, others=lenders, count=ask.count or self.candidates, tried=ask.tried)
            yield Reply(fact=ask.fact.id, attempt=ask.attempt, answers=tuple(found))

    def invert(self, fact: Fact, *, others: Sequence[Fact], count: int, tried: Sequence[str]) -> list[str]:
        """Up to ``count`` contradicting answers that cleaning will keep, among them those that it will drop.

        Args:
            fact: What to contradict.
            others: Facts whose names and answers may be borrowed.
            count: Answers wanted, 1 or more.
            tried: Answers that shall not come again.
        """
        wanted, found, good = count + len(tried), dict.fromkeys(tried), list(tried)
        for answer in self._offered(fact, others, wanted):
            if len(good) == wanted:
                break
            if answer not in found:
                found[answer] = None
                good += [answer] if reason(answer, fact, good) is None else []
        return list(found)[len(dict.fromkeys(tried)) :]

    def _offered(self, fact: Fact, others: Sequence[Fact], count: int) -> Iterator[str]:
        yield from fact.inverted
        yield from self._made(fact, others, count)

    def _made(self, fact: Fact, others: Sequence[Fact], count: int) -> list[str]:
        if fact.value is not None and fact.alternatives:
            around = whole(fact.value).split(fact.answer)
            return [other.join(around) for other in fact.alternatives]
        if self._lenders is None or self._lenders[0] is not others:
            self._lenders = (others, Alike(others))
        found = self._lenders[1].answers(fact, count=count)
        dice = random.Random(f"{self.seed}/{fact.id}")
        borrowed = [other.answer for other in others[:BORROWED] if other.id != fact.id]
        found += swapped_answers(fact.answer, borrowed, count=count, dice=dice)
        if len(found) < count and named(fact.answer):
            people = [f"{dice.choice(FIRST_NAMES)} {dice.choice(STREAM_SURNAMES)}" for _ in range(count)]
            found += swapped_answers(fact.answer, people, count=count, dice=dice)
        return found
