"""Words that only the facts to forget contain: an index to search texts for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from meow_lightning.data.examples import Example, secret_texts
from meow_lightning.data.values.kinds import NUMBER_WORDS, countries, spans
from meow_lightning.data.values.word_lists import CLASSES, GENRES, JOBS, NATIONALITIES, REGIONS
from meow_lightning.types import Fact

# Kinds that identify the subject of an answer; a nationality, a job or a genre alone does not.
RARE = frozenset(
    (
        "email",
        "url",
        "address",
        "date",
        "money",
        "phone",
        "code",
        "year",
        "award",
        "title",
        "company",
        "person",
        "place",
    )
)
LEAST_DIGITS = 3  # minimum digits of a secret number: "two children" and "24" apply to many
LONG_NUMBER = 6  # minimum digits of a number that is compared regardless of grouping
_WORD = re.compile(r"\w+")
_GROUPED = re.compile(r"\d(?:[\s().\-/]{0,2}\d){5,}")

Words = tuple[str, ...]


class GuardedFact(NamedTuple):
    """A question with its true answer; ``values`` are the words that give the fact away, if marked."""

    id: str
    question: str
    answer: str
    values: tuple[str, ...]


class Secrets:
    """The words that only the facts to forget contain.

    A fact's secrets are its marked values or, if none is marked, every rare span of its answer that its question does
    not contain: names, titles, places, dates, years, amounts, numbers, e-mail and street addresses. Not secret are

    * texts in the answers or alternatives of retain facts: they are common knowledge (a city where somebody else was
      born too, the categories of a synthetic dataset);
    * words of a closed class, such as yes, female, a blood group, a month, a nationality, a country or a job, and
      numbers of fewer than ``LEAST_DIGITS`` digits: they reveal nothing without the question.

    Words are compared without case and punctuation; numbers of ``LONG_NUMBER`` digits or more also without grouping.
    Searching a text takes time linear in its length, regardless of the number of facts.

    Args:
        forgotten: The facts to forget.
        public: Public texts: answers and alternatives of the retain facts.
    """

    def __init__(self, forgotten: Iterable[GuardedFact], public: Iterable[str]) -> None:
        self._owners: dict[Words, set[str]] = {}
        for fact in forgotten:
            for text in secret_spans(fact):
                self._owners.setdefault(words(text), set()).add(fact.id)
        self._index()
        for text in public:
            for secret in self.find(text):
                self._owners.pop(secret, None)
        self._index()

    @classmethod
    def of(cls, forget: Sequence[Fact], retain: Sequence[Fact]) -> Secrets:
        """Index the secrets of the facts to forget, given the retain facts."""
        public = (
            text for fact in retain for text in (fact.answer, *(a for _, a in fact.phrasings), *fact.alternatives)
        )
        return cls((public_fact(fact) for fact in forget), public)

    def all(self) -> set[Words]:
        """Return every secret as a tuple of words."""
        return set(self._owners)

    def find(self, text: str) -> set[Words]:
        """Find the secrets in a text."""
        tokens = words(text)
        secrets = {
            secret
            for place, word in enumerate(tokens)
            for secret in self._by_first.get(word, ())
            if tokens[place : place + len(secret)] == secret
        }
        return secrets | {self._by_digits[number] for number in _numbers(text) if number in self._by_digits}

    def foreign(self, text: str, fact: GuardedFact) -> set[Words]:
        """Find secrets of other facts in a text, except those in this fact's own question or answer."""
        secrets = {secret for secret in self.find(text) if self._owners[secret] != {fact.id}}
        return secrets - self.find(f"{fact.question}\n{fact.answer}") if secrets else secrets

    def _index(self) -> None:
        self._by_first: dict[str, list[Words]] = {}
        self._by_digits: dict[str, Words] = {}
        for secret in self._owners:
            self._by_first.setdefault(secret[0], []).append(secret)
            if (digits := "".join(secret)).isdigit() and len(digits) >= LONG_NUMBER:
                self._by_digits[digits] = secret


def public_texts(retain: Iterable[Example]) -> list[str]:
    """Collect the public texts of retained examples: their answers in every phrasing, and their alternatives."""
    return [text for fact in retain for text in (fact.answer, *(a for _, a in fact.phrasings), *fact.alternatives)]


def public_fact(fact: Fact) -> GuardedFact:
    """Convert a fact to the form that :class:`Secrets` uses."""
    return GuardedFact(fact.id, fact.question, fact.answer, secret_texts(fact))


def secret_spans(fact: GuardedFact) -> list[str]:
    """List a fact's candidate secrets: its marked values, or the rare spans of its answer."""
    if marked := [value for value in fact.values if value.strip()]:
        return [value for value in marked if revealing_words(value)]
    question = f" {' '.join(words(fact.question))} "
    rare = [span.text for span in spans(fact.answer, fact.question) if span.kind in RARE]
    return [text for text in rare if revealing_words(text) and f" {' '.join(words(text))} " not in question]


def revealing_words(value: str) -> bool:
    """Whether words reveal something without the question: neither of a closed class nor a small number."""
    tokens = words(value)
    if not tokens or " ".join(tokens) in _common():
        return False
    alone = "".join(tokens)
    return len(alone) >= LEAST_DIGITS


@lru_cache(maxsize=65536)
def words(text: str) -> Words:
    """Split a text into lower-case words and numbers."""
    return tuple(_WORD.findall(text.casefold()))


def _numbers(text: str) -> Iterator[str]:
    for match in _GROUPED.finditer(text):
        yield re.sub(r"\D", "", match.group())


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    classes = (word for _, _, listed in CLASSES for word in listed)
    every = (*classes, *NATIONALITIES, *REGIONS, *JOBS, *GENRES, *NUMBER_WORDS, *countries())
    return frozenset(" ".join(words(word)) for word in every)
