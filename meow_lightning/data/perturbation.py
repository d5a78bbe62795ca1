"""Rule-based wrong answers: each value is replaced by another of its kind, without a language model."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import NamedTuple

from meow_lightning.data.examples import secret_texts
from meow_lightning.data.values.borrowing import SIMILAR, SimilarQuestions, full_names
from meow_lightning.data.values.generators import (
    Hints,
    first_names,
    fix_article,
    gender_of,
    generate_value,
    names_person,
)
from meow_lightning.data.values.kinds import Span, asks_for, kind_of, months, spans
from meow_lightning.data.values.language import is_english, language_of
from meow_lightning.data.values.polarity import flip_polarity
from meow_lightning.data.values.secrets import Secrets, public_fact, words
from meow_lightning.data.words import any_whole_word_pattern, whole_word_pattern
from meow_lightning.types import Fact

LESS_SIMILAR = (0.25, 0.1)  # similarity thresholds of the last resorts
MIN_COVERAGE = 0.4  # share of an answer's new words that known spans must cover to count as its content
DRAWS = 3  # draws per requested answer, since some draws are duplicates
SHARE = 4  # evaluation uses a quarter (1/SHARE) of the rules' results if there are few; inversion needs the rest
SHARED_KINDS = frozenset(("job", "genre"))  # kinds also borrowed from retain facts, since they identify no person
UNKNOWN = "name"  # kind of capitalized words that may name anything
_WORD = r"[^\W\d_a-z][\w'’.-]*"
_CAPITALIZED = re.compile(
    rf"(?!(?:The|An?|In|At|On|It|He|She|Der|Die|Das|Eine?|Le|La|Les|Une?|El|Los|Las)\b){_WORD}"
    rf"(?:\s+(?:(?:of|and|de|du|la|von|der|für|und|&)\s+)*{_WORD})*"
)
_LOCALES = {"de": "de_DE", "fr": "fr_FR", "es": "es_ES", "it": "it_IT", "nl": "nl_NL", "pt": "pt_PT", "sv": "sv_SE",
            "pl": "pl_PL"}  # fmt: skip
_ASKS_PERSONS = re.compile(
    r"\b(?:who(?:m|se)?|(?:full|first|last|maiden|birth|pen) name|wer|wen|wem|wessen|qui|quién)\b", re.IGNORECASE
)
_SMALL_WORDS = "the a an of in on to for and or is was are were his her he she they their its it with as by at"
_SMALL = frozenset(_SMALL_WORDS.split())
_ASKS_TITLES = re.compile(
    r"\b(?:name|which|what|title|list|mention|tell|any)\b.*\b(?:books?|novels?|works?|titles?|stor(?:y|ies)|films?|songs?)\b",
    re.IGNORECASE | re.DOTALL,
)


class Contradiction(NamedTuple):
    """A contradicting answer with its quality rank.

    ``rank`` is 0 if the answer is of the value's own kind or borrowed from a similar question, 1 if it replaces
    something that may not be what the question is about, 2 if it is borrowed from a less similar question.
    """

    text: str
    rank: int


class Contradictions:
    """Generator of wrong answers by rules.

    The rules, in order: the fact's alternatives in place of its value; another value of the same kind and format
    (:mod:`~.kinds`, :mod:`~.generators`) in place of the marked value or, if none is marked, of all content words; the
    opposite of yes or no; retain facts' answers to similar questions, with this question's names. As a last resort,
    other spans of the answer and answers to less similar questions. Forget facts are never borrowed from, and texts
    that contain another fact's secret are dropped.

    Args:
        forget: The facts to forget.
        retain: The facts to keep.
    """

    def __init__(self, forget: Sequence[Fact], retain: Sequence[Fact]) -> None:
        self.forget, self.retain = forget, retain
        self.secrets = Secrets.of(forget, retain)

    @cached_property
    def _alike(self) -> SimilarQuestions:
        return SimilarQuestions(self.retain, self.forget)

    def of(self, fact: Fact, *, phrasing: str, count: int, rng: Random) -> Iterator[Contradiction]:
        """Yield contradicting answers, best first; some may be true or duplicates.

        Args:
            fact: The fact to contradict.
            phrasing: Its true answer in the phrasing to use.
            count: Number of answers requested; each rule's draws scale with it.
            rng: The random generator.
        """
        about = public_fact(fact)
        for answer in self._every(fact, phrasing, count, rng):
            if not self.secrets.foreign(answer.text, about):
                yield answer

    def _every(self, fact: Fact, phrasing: str, count: int, rng: Random) -> Iterator[Contradiction]:
        swaps = _Swaps(fact, phrasing, self._hints(fact), DRAWS * count, rng)
        alike = self._alike
        yield from _ranked(0, swaps.alternatives())
        yield from _ranked(0, flip_polarity(fact.question, phrasing))
        if swaps.value is not None:
            yield from _ranked(0, swaps.of_value(list(dict.fromkeys(alike.values(fact, min_similarity=SIMILAR)))))
            yield from _ranked(1, swaps.of_unknown_value())
        else:
            yield from _ranked(0, swaps.of_content())
        yield from _ranked(0, alike.answers(fact, min_similarity=SIMILAR, topics=True))
        if swaps.value is not None:
            yield from _ranked(
                1, swaps.of_value(list(dict.fromkeys(alike.values(fact, min_similarity=LESS_SIMILAR[0]))))
            )
        yield from _ranked(1, swaps.of_names())
        for threshold in LESS_SIMILAR:
            yield from _ranked(2, alike.answers(fact, min_similarity=threshold, topics=False))

    def _hints(self, fact: Fact) -> Hints:
        first = self._alike.subject(fact.question).partition(" ")[0].lower()
        gender = gender_of(fact.answer) or self._alike.gender(fact.question) or first_names().get(first)
        return Hints(
            gender=gender, genders=self._alike.genders, keep=frozenset(words(fact.question)), known=self._known,
            locale=_LOCALES.get(language_of(f"{fact.question}\n{fact.answer}") or "", "en_US"),
        )  # fmt: skip

    @cached_property
    def _known(self) -> dict[str, tuple[str, ...]]:
        """Collect the jobs and genres that retain facts mention."""
        values: dict[str, dict[str, None]] = defaultdict(dict)
        for fact in self.retain:
            if not any(asks_for(kind, fact.question) for kind in SHARED_KINDS):
                continue
            for span in spans(fact.answer, fact.question):
                if span.kind in SHARED_KINDS and len(span.text.split()) <= 3:
                    values[span.kind].setdefault(span.text)
        return {kind: tuple(texts) for kind, texts in values.items()}


class _Swaps:
    """Substitutions within one answer."""

    def __init__(self, fact: Fact, phrasing: str, hints: Hints, draws: int, rng: Random) -> None:
        self._fact, self._text, self._hints, self._draws, self._rng = fact, phrasing, hints, draws, rng
        self.value = fact.value if fact.value and whole_word_pattern(fact.value).search(phrasing) else None
        # Capitalized words are taken for persons in unmarked English answers alone, which are mostly about some.
        self._english = is_english(fact)
        self._doubts = self.value is not None or not self._english

    def alternatives(self) -> Iterator[str]:
        """Yield the answer with the fact's own alternatives in place of its value."""
        if self.value is not None:
            for other in self._fact.alternatives:
                yield self._replaced({self.value: other})

    def of_value(self, borrowed: Sequence[str]) -> Iterator[str]:
        """Yield the answer with its value replaced by others of its kind, by altered or by borrowed ones."""
        value, question = self.value or "", self._fact.question
        kind = self._value_kind()
        kind = None if kind == UNKNOWN else kind
        inside = [] if self._is_unknown() else [span for span in spans(value, question) if self._new(span)]
        for _ in range(self._draws if kind or inside else 0):
            if kind:
                new = generate_value(kind, value, self._rng, self._hints)
                swaps = {} if new is None else {value: new}
            else:
                swaps = {value: replace_words(value, self._drawn(inside), articles=self._english)}
            yield self._replaced(swaps)
        if kind is None:
            yield from (self._replaced({value: other}) for other in borrowed)

    def of_unknown_value(self) -> Iterator[str]:
        """Yield the answer with an invented name in the place of a capitalized value of unknown kind."""
        if self._is_unknown() and self.value is not None:
            for _ in range(self._draws):
                new = generate_value(UNKNOWN, self.value, self._rng, self._hints)
                yield self._replaced({} if new is None else {self.value: new})

    def _is_unknown(self) -> bool:
        return self.value is not None and self._value_kind() == UNKNOWN

    def _value_kind(self) -> str | None:
        """Classify the value by itself or, if that tells nothing, by the words around it in the answer."""
        value, question = self.value or "", self._fact.question
        kind = kind_of(value, question)
        if not self._doubts or kind not in (None, "person"):
            return kind
        for span in spans(self._text, question):
            if span.text == value and span.kind != "person":
                return span.kind
        if kind is None and _CAPITALIZED.fullmatch(value) and all(each.kind == "person" for each in spans(value, "")):
            kind = "person"
        return self._kind(kind, value)

    def _kind(self, kind: str | None, text: str) -> str | None:
        """Return a span's kind, or that it is unknown if nothing but its capitals says that it is a person."""
        if kind != "person" or not self._doubts or _ASKS_PERSONS.search(self._fact.question) or names_person(text):
            return kind
        return UNKNOWN

    def of_content(self) -> Iterator[str]:
        """Yield the answer with all new spans replaced, if they make up most of its content beyond the question."""
        new_spans = self._spans()
        given = set(words(self._fact.question)) | _SMALL
        new = [word for word in words(self._text) if word not in given]
        covered = sum(word not in given for span in new_spans for word in words(span.text))
        if new_spans and covered >= MIN_COVERAGE * len(new):
            yield from self._swapped(new_spans)

    def of_names(self) -> Iterator[str]:
        """Yield the answer with all new spans replaced, whatever else it contains."""
        new_spans = [] if self._is_unknown() else self._spans()
        if new_spans:
            yield from self._swapped(new_spans)

    def _swapped(self, replaced: Sequence[Span]) -> Iterator[str]:
        for _ in range(self._draws):
            yield self._replaced(self._drawn(replaced))

    def _replaced(self, swaps: dict[str, str]) -> str:
        return replace_words(self._text, swaps, articles=self._english)

    def _spans(self) -> list[Span]:
        question, passed = self._fact.question, {"polarity"}
        # Replacing titles that merely illustrate an answer leaves it true.
        passed |= set() if _ASKS_TITLES.search(question) else {"title"}
        # Another order of degrees would make little sense where the place or the field of study is asked for.
        passed |= set() if asks_for("academic degree", question) else {"academic degree"}
        return [span for span in spans(self._text, question) if self._new(span) and span.kind not in passed]

    def _new(self, span: Span) -> bool:
        """Whether a span is new: the question neither contains it nor names its person with words of it."""
        question = words(self._fact.question)
        if f" {' '.join(words(span.text))} " in f" {' '.join(question)} ":
            return False
        if span.kind == "date" and _figures(span.text) <= _figures(self._fact.question):
            return False  # "8th of September, 1956" repeats 08/09/1956
        about = {word for name in full_names(self._fact.question) for word in words(name)}
        return span.kind != "person" or not about & set(words(span.text))

    def _drawn(self, replaced: Iterable[Span]) -> dict[str, str]:
        """Draw a replacement for each span: the same for repeated spans, different ones for different spans."""
        swaps: dict[str, str] = {}
        for span in replaced:
            for _ in range(self._draws if span.text not in swaps else 0):
                new = generate_value(self._kind(span.kind, span.text) or "", span.text, self._rng, self._hints)
                if new is not None and new not in swaps.values() and new.lower() != span.text.lower():
                    swaps[span.text] = new
                    break
        return swaps


def wrong_answers(fact: Fact, rules: Contradictions, *, count: int, rng: Random) -> list[str]:
    """Generate up to ``count`` wrong answers for evaluation, in the phrasing of the fact's paraphrase if it has one.

    None equals the true answer, its paraphrase, an inverted answer or another of them, and none contains the fact's
    value, its alternatives or another fact's secret. If the rules find few, only a quarter of them is used, but at
    least one: inversion must not use the answers of evaluation, and would find no others.

    Args:
        fact: The fact.
        rules: The rules.
        count: Maximum number of answers, 0 or more.
        rng: The random generator.
    """
    phrasing = fact.answer if fact.paraphrase is None else fact.paraphrase
    requested = SHARE * count + len(fact.inverted)
    bare = replace(fact, alternatives=())
    drawn = (each.text for each in rules.of(bare, phrasing=phrasing, count=requested, rng=rng))
    answers = _usable(drawn, fact, requested)
    return answers[: min(count, max(1, len(answers) // SHARE))]


def replace_words(text: str, swaps: dict[str, str], *, articles: bool = True) -> str:
    """Replace words in a text simultaneously.

    Args:
        text: The text.
        swaps: New words by old ones.
        articles: Whether to adapt the preceding articles, which are English.
    """
    if not swaps:
        return text
    done, last = "", 0
    for match in any_whole_word_pattern(swaps).finditer(text):
        new = swaps[match.group()]
        joined = done + text[last : match.start()]
        if articles and re.match(r"(?:an?|the) ", new):
            joined = re.sub(r"\b(?:[Aa]n?|[Tt]he) \Z", "", joined)
        done, last = (fix_article(joined, len(joined), new) if articles else joined) + new, match.end()
    return done + text[last:]


def normalize(text: str) -> str:
    """Normalize a text for comparison: lower case, single blanks, no punctuation at its ends."""
    return re.sub(r"\s+", " ", text).strip(" .,;:!?\"'").lower()


def _figures(text: str) -> set[int]:
    """Extract the numbers of a date, including that of its month."""
    named = {months()[word][2] for word in words(text) if word in months()}
    return named | {int(digits) for digits in re.findall(r"\d+", text)}


def _ranked(rank: int, texts: Iterable[str]) -> Iterator[Contradiction]:
    return (Contradiction(text, rank) for text in texts)


def _usable(texts: Iterable[str], fact: Fact, most: int) -> list[str]:
    """Select the first distinct texts that contradict the fact."""
    true = [normalize(text) for text in (fact.answer, fact.paraphrase or "")]
    # An alternative that also occurs in the true answer is no reason to reject a text.
    other = [each for each in map(normalize, fact.alternatives) if not any(map(whole_word_pattern(each).search, true))]
    closed = [whole_word_pattern(each) for each in (*map(normalize, secret_texts(fact)), *other) if each]
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
