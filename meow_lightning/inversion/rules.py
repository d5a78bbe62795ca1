"""Inverted facts without any language model: the value of the answer is swapped for another of its kind."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from meow_lightning.types import Fact, UserError

_NUMBER = re.compile(r"\d+")
# Several capital words anywhere, or one inside a sentence: a sentence's first word alone is no name.
_NAME = re.compile(r"\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)+|(?<=[a-z0-9,;:] )[A-Z][\w'-]+")


class Rules:
    """Writes up to ``candidates`` contradicting answers per fact.

    A fact that marks its value and brings alternatives gets the alternatives in the value's place. Any other answer
    gets other numbers where it holds numbers, and the names of other facts' answers where it holds names; an answer
    with neither gets the answers of other questions.

    Args:
        candidates: Answers per fact, 1 or more.
        seed: Seed of the choices.
    """

    def __init__(self, *, candidates: int, seed: int) -> None:
        if candidates < 1:
            raise UserError(f"inversion.candidates={candidates} is too small; at least 1 is needed")
        self.candidates, self.seed = candidates, seed

    def invert(self, fact: Fact, *, others: Sequence[Fact]) -> list[str]:
        """The contradicting answers of one fact, as raw as an LLM would give them: cleaning comes after.

        Args:
            fact: What to contradict.
            others: Facts whose names and answers may be borrowed.
        """
        if fact.value is not None and fact.alternatives:
            whole = re.compile(rf"(?<!\w){re.escape(fact.value)}(?!\w)")
            around = whole.split(fact.answer)
            return [other.join(around) for other in fact.alternatives[: self.candidates]]
        dice = random.Random(f"{self.seed}/{fact.id}")
        names = sorted(
            {name for other in others for name in _NAME.findall(other.answer)} - set(_NAME.findall(fact.answer))
        )
        if _NUMBER.search(fact.answer) or (names and _NAME.search(fact.answer)):
            # Twice as many draws as wished for, since chance repeats itself.
            drawn = [self._swapped(fact.answer, names, dice) for _ in range(2 * self.candidates)]
            return [text for text in dict.fromkeys(drawn) if text != fact.answer][: self.candidates]
        borrowed = [other.answer for other in others if other.id != fact.id]
        return dice.sample(borrowed, min(self.candidates, len(borrowed)))

    @staticmethod
    def _swapped(answer: str, names: Sequence[str], dice: random.Random) -> str:
        def number(found: re.Match[str]) -> str:
            old = int(found.group())
            step = dice.choice([-1, 1]) * dice.randint(1, max(2, min(40, old // 2)))
            return str(max(0, old + step) if old else abs(step))

        swapped = _NUMBER.sub(number, answer)
        return _NAME.sub(lambda _: dice.choice(names), swapped) if names else swapped
