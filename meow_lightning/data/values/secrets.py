"""Which words of the facts to forget nobody else may say: an index that a text is looked up in, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from meow_lightning.data.values.kinds import NUMBER_WORDS, countries, spans
from meow_lightning.data.values.word_lists import CLASSES, GENRES, JOBS, NATIONALITIES, REGIONS
from meow_lightning.types import Fact

# Kinds of words that tell whom an answer is about; a nationality, a trade or a genre alone does not.
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
LEAST_DIGITS = 3  # of a number that can be a secret: "two children" and "24" are said of many
LONG_NUMBER = 6  # digits of a number that is the same number however it is grouped
_WORD = re.compile(r"\w+")
_GROUPED = re.compile(r"\d(?:[\s().\-/]{0,2}\d){5,}")

Words = tuple[str, ...]


class Told(NamedTuple):
    """What a question and its true answer say; ``value`` are the words that carry the fact, where they are marked."""

    id: str
    question: str
    answer: str
    value: str | None


class Secrets:
    """The words that only the facts to forget hold.

    A fact's secret is its marked value; where none is marked, every rare span of its answer that its own question does
    not hold: names, titles, places, dates, years, sums, numbers, e-mail and street addresses. No secret is

    * what a kept fact says in its answers or names among its alternatives: that is common knowledge (a city that
      somebody else was born in too, the categories of a made-up dataset);
    * a word of a closed class, such as yes, female, a blood group, a month, a nationality, a country or a trade, nor a
      number of fewer than ``LEAST_DIGITS`` digits: they tell nothing without the question.

    Words are compared without case and punctuation; numbers of ``LONG_NUMBER`` digits or more also without what groups
    them. Looking up a text takes time in proportion to its length, however many facts there are.

    Args:
        forgotten: The facts to forget.
        public: What may be said: answers and alternatives of the kept facts.
    """

    def __init__(self, forgotten: Iterable[Told], public: Iterable[str]) -> None:
        self._owners: dict[Words, set[str]] = {}
        for fact in forgotten:
            for text in secret_texts(fact):
                self._owners.setdefault(words(text), set()).add(fact.id)
        self._index()
        for text in public:
            for secret in self.found(text):
                self._owners.pop(secret, None)
        self._index()

    @classmethod
    def of(cls, forget: Sequence[Fact], retain: Sequence[Fact]) -> Secrets:
        """The secrets of some facts, beside others that are kept."""
        public = (
            text for fact in retain for text in (fact.answer, *(a for _, a in fact.phrasings), *fact.alternatives)
        )
        return cls((public_fact(fact) for fact in forget), public)

    def all(self) -> set[Words]:
        """Every secret, as words."""
        return set(self._owners)

    def found(self, text: str) -> set[Words]:
        """The secrets in a text."""
        said = words(text)
        held = {
            secret
            for place, word in enumerate(said)
            for secret in self._by_first.get(word, ())
            if said[place : place + len(secret)] == secret
        }
        return held | {self._by_digits[number] for number in _numbers(text) if number in self._by_digits}

    def foreign(self, text: str, fact: Told) -> set[Words]:
        """The secrets of other facts in a text, but for those that this fact's own question or answer holds."""
        held = {secret for secret in self.found(text) if self._owners[secret] != {fact.id}}
        return held - self.found(f"{fact.question}\n{fact.answer}") if held else held

    def _index(self) -> None:
        self._by_first: dict[str, list[Words]] = {}
        self._by_digits: dict[str, Words] = {}
        for secret in self._owners:
            self._by_first.setdefault(secret[0], []).append(secret)
            if (digits := "".join(secret)).isdigit() and len(digits) >= LONG_NUMBER:
                self._by_digits[digits] = secret


def public_texts(retain: Iterable[Fact]) -> list[str]:
    """What kept facts say: their answers in every phrasing, and the alternatives that they name."""
    return [text for fact in retain for text in (fact.answer, *(a for _, a in fact.phrasings), *fact.alternatives)]


def public_fact(fact: Fact) -> Told:
    """A fact as secrets see it."""
    return Told(fact.id, fact.question, fact.answer, fact.value)


def secret_texts(fact: Told) -> list[str]:
    """What a fact has to hide, before others are looked at: its marked value, or the rare spans of its answer."""
    if fact.value is not None and fact.value.strip():
        return [fact.value] if revealing_words(fact.value) else []
    asked = f" {' '.join(words(fact.question))} "
    found = [span.text for span in spans(fact.answer, fact.question) if span.kind in RARE]
    return [text for text in found if revealing_words(text) and f" {' '.join(words(text))} " not in asked]


def revealing_words(value: str) -> bool:
    """Whether words tell something without the question: no word of a closed class, no small number."""
    said = words(value)
    if not said or " ".join(said) in _common():
        return False
    alone = "".join(said)
    return len(alone) >= LEAST_DIGITS


@lru_cache(maxsize=65536)
def words(text: str) -> Words:
    """The words and numbers of a text in lower case."""
    return tuple(_WORD.findall(text.casefold()))


def _numbers(text: str) -> Iterator[str]:
    for match in _GROUPED.finditer(text):
        yield re.sub(r"\D", "", match.group())


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    classes = (word for _, _, listed in CLASSES for word in listed)
    every = (*classes, *NATIONALITIES, *REGIONS, *JOBS, *GENRES, *NUMBER_WORDS, *countries())
    return frozenset(" ".join(words(word)) for word in every)
