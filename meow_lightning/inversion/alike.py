"""Contradictions borrowed from alike questions: what another author's answer says, said of this one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

from meow_lightning.data.swaps import names
from meow_lightning.types import Fact

ALIKE = 0.3  # least share of words that two questions have in common
SMALL = 3  # letters of words that carry no meaning by themselves, at most


class Alike:
    """Finds what others' answers say to a question.

    Two questions are alike by the words they share apart from names, |A and B| / |A or B|. Whom a question is about is
    the name in it that most questions hold; one without a name, or about the same one, lends no answer: its answer
    could be true.

    Args:
        facts: Facts to borrow from.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._facts = facts
        self._counts = Counter(name for fact in facts for name in set(_named(fact.question)))

    def answers(self, fact: Fact, *, count: int) -> list[str]:
        """Up to ``count`` answers to the most alike questions about somebody else, this one's name in them.

        Args:
            fact: What to contradict; it may be among those borrowed from.
            count: Most answers wanted, 0 or more.
        """
        found: dict[str, None] = {}
        subject, true = self._subject(fact.question), _words(fact.answer)
        for theirs, answer in self._ranked(fact, subject) if subject else ():
            renamed = _renamed(answer, theirs, subject)
            # The same in other words is no contradiction: some word that carries meaning must be new.
            if len(found) < count and any(len(word) > SMALL for word in _words(renamed) - true):
                found.setdefault(renamed)
        return list(found)

    def _ranked(self, fact: Fact, subject: str) -> Iterator[tuple[str, str]]:
        """(whom it is about, answer) of the questions alike, the most alike first."""
        mine, ours = _words(fact.question), set(subject.split())
        shares = []
        for place, other in enumerate(self._facts):
            words = _words(other.question)
            share = len(mine & words) / len(mine | words) if mine else 0.0
            if share >= ALIKE:
                shares.append((-share, place))
        for _, place in sorted(shares):
            theirs = self._subject(self._facts[place].question)
            if theirs and not ours & set(theirs.split()):
                yield theirs, self._facts[place].answer

    def _subject(self, question: str) -> str:
        return max(_named(question), key=lambda name: (self._counts[name], len(name)), default="")


@lru_cache(maxsize=16384)
def _words(text: str) -> frozenset[str]:
    """The words of a text apart from names, in lower case."""
    for name in names(text):
        text = text.replace(name, " ")
    return frozenset(re.findall(r"[a-z0-9]+", text.lower()))


@lru_cache(maxsize=16384)
def _named(question: str) -> tuple[str, ...]:
    """The names of several words in a question, without their genitive."""
    return tuple(re.sub(r"['’]s?$", "", name) for name in names(question) if " " in name)


def _renamed(answer: str, theirs: str, subject: str) -> str:
    """The answer with one name in the place of the other, whole or by its first or last word."""
    mine, other = subject.split(), theirs.split()
    swaps = {theirs: subject, other[-1]: mine[-1], other[0]: mine[0]}
    pattern = "|".join(rf"(?<!\w){re.escape(each)}(?!\w)" for each in swaps)
    return re.sub(pattern, lambda match: swaps[match.group()], answer)
