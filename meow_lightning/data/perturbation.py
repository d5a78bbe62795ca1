"""Answers that contradict the true one, without any language model: each value gives way to another of its kind."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import NamedTuple

from meow_lightning.data.values.borrowing import ALIKE, Alike, full_names
from meow_lightning.data.values.generators import Hints, first_names, fix_article, gender_of, generate_value
from meow_lightning.data.values.kinds import Span, asks_for, kind_of, months, spans
from meow_lightning.data.values.polarity import flip_polarity
from meow_lightning.data.values.secrets import Secrets, public_fact, words
from meow_lightning.data.words import any_whole_word_pattern, whole_word_pattern
from meow_lightning.types import Fact

REMOTE = (0.25, 0.1)  # likeness from which on it is better than none
TOLD = 0.4  # share of an answer's new words within spans of known kinds, for these to be what it tells
DRAWS = 3  # times as many draws as answers wanted, since chance repeats itself
SHARE = 4  # wrong answers take a quarter of what the rules find, since inversion rules live on the same finds
LENT = frozenset(("job", "genre"))  # kinds whose values are taken from kept facts too: they belong to nobody
_SMALL_WORDS = "the a an of in on to for and or is was are were his her he she they their its it with as by at"
_SMALL = frozenset(_SMALL_WORDS.split())
_ASKS_TITLES = re.compile(
    r"\b(?:name|which|what|title|list|mention|tell|any)\b.*\b(?:books?|novels?|works?|titles?|stor(?:y|ies)|films?|songs?)\b",
    re.IGNORECASE | re.DOTALL,
)


class Found(NamedTuple):
    """A contradicting answer and how good it is.

    ``rank`` is 0 where it is of the value's own kind or lent by an alike question, 1 where something in the answer is
    swapped that may not be what was asked for, 2 where a question that is less alike lent it.
    """

    text: str
    rank: int


class Contradictions:
    """Writes wrong answers to questions by rules.

    In this order: what the fact's alternatives say in its value's place; another value of the same kind and written
    form (:mod:`~.kinds`, :mod:`~.makers`) in the place of the marked value or, where none is marked, of all that the
    answer tells; yes for no and no for yes; what kept facts answer to alike questions, under this one's name. As a last
    resort other spans of the answer, and the answers to questions that are less alike. The facts to forget lend
    nothing, and no text that holds a secret of another one comes.

    Args:
        forget: The facts to forget.
        retain: The facts to keep.
    """

    def __init__(self, forget: Sequence[Fact], retain: Sequence[Fact]) -> None:
        self.forget, self.retain = forget, retain
        self.secrets = Secrets.of(forget, retain)

    @cached_property
    def _alike(self) -> Alike:
        return Alike(self.retain, self.forget)

    def of(self, fact: Fact, *, phrasing: str, count: int, dice: Random) -> Iterator[Found]:
        """Contradicting answers, the best first; some may be still true, and some may come twice.

        Args:
            fact: What to contradict.
            phrasing: Its true answer in the words to write in.
            count: Answers wanted; the draws of each way of writing follow it.
            dice: Where chance comes from.
        """
        about = public_fact(fact)
        for found in self._every(fact, phrasing, count, dice):
            if not self.secrets.foreign(found.text, about):
                yield found

    def _every(self, fact: Fact, phrasing: str, count: int, dice: Random) -> Iterator[Found]:
        swaps = _Swaps(fact, phrasing, self._hints(fact), DRAWS * count, dice)
        alike = self._alike
        yield from _as(0, swaps.alternatives())
        yield from _as(0, flip_polarity(fact.question, phrasing))
        if swaps.value is not None:
            yield from _as(0, swaps.of_value(list(dict.fromkeys(alike.values(fact, least=ALIKE)))))
        else:
            yield from _as(0, swaps.of_telling())
        yield from _as(0, alike.answers(fact, least=ALIKE, topics=True))
        if swaps.value is not None:
            yield from _as(1, swaps.of_value(list(dict.fromkeys(alike.values(fact, least=REMOTE[0])))))
        yield from _as(1, swaps.of_names())
        for least in REMOTE:
            yield from _as(2, alike.answers(fact, least=least, topics=False))

    def _hints(self, fact: Fact) -> Hints:
        first = self._alike.subject(fact.question).partition(" ")[0].lower()
        gender = gender_of(fact.answer) or self._alike.gender(fact.question) or first_names().get(first)
        return Hints(
            gender=gender, genders=self._alike.genders, keep=frozenset(words(fact.question)), known=self._known
        )

    @cached_property
    def _known(self) -> dict[str, tuple[str, ...]]:
        """The trades and genres that kept facts speak of."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for fact in self.retain:
            if not any(asks_for(kind, fact.question) for kind in LENT):
                continue
            for span in spans(fact.answer, fact.question):
                if span.kind in LENT and len(span.text.split()) <= 3:
                    found[span.kind].setdefault(span.text)
        return {kind: tuple(values) for kind, values in found.items()}


class _Swaps:
    """The swaps within one answer."""

    def __init__(self, fact: Fact, phrasing: str, hints: Hints, draws: int, dice: Random) -> None:
        self._fact, self._text, self._hints, self._draws, self._dice = fact, phrasing, hints, draws, dice
        self.value = fact.value if fact.value and whole_word_pattern(fact.value).search(phrasing) else None

    def alternatives(self) -> Iterator[str]:
        """The answer with the fact's own alternatives in its value's place."""
        if self.value is not None:
            for other in self._fact.alternatives:
                yield replace_words(self._text, {self.value: other})

    def of_value(self, lent: Sequence[str]) -> Iterator[str]:
        """The answer with other values of its value's kind, or what lies within it swapped; else lent values."""
        value, asked = self.value or "", self._fact.question
        kind = kind_of(value, asked)
        inside = [span for span in spans(value, asked) if self._new(span)]
        for _ in range(self._draws if kind or inside else 0):
            if kind:
                new = generate_value(kind, value, self._dice, self._hints)
                swaps = {} if new is None else {value: new}
            else:
                swaps = {value: replace_words(value, self._drawn(inside))}
            yield replace_words(self._text, swaps)
        if kind is None:
            yield from (replace_words(self._text, {value: other}) for other in lent)

    def of_telling(self) -> Iterator[str]:
        """The answer with all its new spans swapped, where these are most of what it tells beyond the question."""
        found = self._spans()
        asked = set(words(self._fact.question)) | _SMALL
        new = [word for word in words(self._text) if word not in asked]
        covered = sum(word not in asked for span in found for word in words(span.text))
        if found and covered >= TOLD * len(new):
            yield from self._swapped(found)

    def of_names(self) -> Iterator[str]:
        """The answer with all its new spans swapped, whatever else it tells."""
        found = self._spans()
        if found:
            yield from self._swapped(found)

    def _swapped(self, found: Sequence[Span]) -> Iterator[str]:
        for _ in range(self._draws):
            yield replace_words(self._text, self._drawn(found))

    def _spans(self) -> list[Span]:
        # Titles that only illustrate an answer leave it true when they change.
        passed = {"polarity"} if _ASKS_TITLES.search(self._fact.question) else {"polarity", "title"}
        return [span for span in spans(self._text, self._fact.question) if self._new(span) and span.kind not in passed]

    def _new(self, span: Span) -> bool:
        """Whether the question does not say a span, nor names whom it is about by words of it."""
        asked = words(self._fact.question)
        if f" {' '.join(words(span.text))} " in f" {' '.join(asked)} ":
            return False
        if span.kind == "date" and _figures(span.text) <= _figures(self._fact.question):
            return False  # 8th of September, 1956 for 08/09/1956
        about = {word for name in full_names(self._fact.question) for word in words(name)}
        return span.kind != "person" or not about & set(words(span.text))

    def _drawn(self, found: Iterable[Span]) -> dict[str, str]:
        """Another text for each span: the same for the same one, and no two alike."""
        swaps: dict[str, str] = {}
        for span in found:
            for _ in range(self._draws if span.text not in swaps else 0):
                new = generate_value(span.kind, span.text, self._dice, self._hints)
                if new is not None and new not in swaps.values() and new.lower() != span.text.lower():
                    swaps[span.text] = new
                    break
        return swaps


def wrong_answers(fact: Fact, rules: Contradictions, *, count: int, dice: Random) -> list[str]:
    """Up to ``count`` wrong answers to measure with, in the phrasing of the fact's paraphrase where it has one.

    None is the true answer, its paraphrase, an inverted answer or another of them, and none holds the fact's value, one
    of its alternatives or a secret of another fact. Where the rules find few, only a quarter of them is taken, but one
    at least: what evaluation measures with is closed to inversion, which would find nothing else.

    Args:
        fact: The fact.
        rules: What writes them.
        count: Most answers wanted, 0 or more.
        dice: Where chance comes from.
    """
    phrasing = fact.answer if fact.paraphrase is None else fact.paraphrase
    wanted = SHARE * count + len(fact.inverted)
    drawn = (each.text for each in rules.of(replace(fact, alternatives=()), phrasing=phrasing, count=wanted, dice=dice))
    found = _fitting(drawn, fact, wanted)
    return found[: min(count, max(1, len(found) // SHARE))]


def replace_words(text: str, swaps: dict[str, str]) -> str:
    """A text with words in the places of others, all at once, and with the articles before them as these want it."""
    if not swaps:
        return text
    done, last = "", 0
    for match in any_whole_word_pattern(swaps).finditer(text):
        new = swaps[match.group()]
        joined = done + text[last : match.start()]
        if re.match(r"(?:an?|the) ", new):
            joined = re.sub(r"\b(?:[Aa]n?|[Tt]he) \Z", "", joined)
        done, last = fix_article(joined, len(joined), new) + new, match.end()
    return done + text[last:]


def normalize(text: str) -> str:
    """A text for comparing: lower case, single blanks, no punctuation at its ends."""
    return re.sub(r"\s+", " ", text).strip(" .,;:!?\"'").lower()


def _figures(text: str) -> set[int]:
    """The numbers of a date, its month's among them."""
    named = {months()[word][2] for word in words(text) if word in months()}
    return named | {int(digits) for digits in re.findall(r"\d+", text)}


def _as(rank: int, texts: Iterable[str]) -> Iterator[Found]:
    return (Found(text, rank) for text in texts)


def _fitting(texts: Iterable[str], fact: Fact, most: int) -> list[str]:
    """The first texts that say something else than the fact, each once."""
    true = [normalize(text) for text in (fact.answer, fact.paraphrase or "")]
    # An alternative that the true answer names anyway rules nothing out.
    other = [each for each in map(normalize, fact.alternatives) if not any(map(whole_word_pattern(each).search, true))]
    closed = [whole_word_pattern(each) for each in (normalize(fact.value or ""), *other) if each]
    seen = {*true, *map(normalize, fact.inverted)}
    kept: list[str] = []
    for text in texts:
        plain = normalize(text)
        if plain and plain not in seen and not any(word.search(plain) for word in closed):
            kept.append(text)
            seen.add(plain)
        if len(kept) == most:
            break
    return kept
