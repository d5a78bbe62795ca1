"""Recognition of capitalized words by their context: places, fields of study, and words that are no proper names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from meow_lightning.data.values.word_lists import CLASSES, DEGREES

_WORD = r"(?-i:[A-Z][^\W\dA-Z])[\w’'-]*(?<!['’])(?<!['’]s)"
JOINING = r"(?:(?:es|de|da|do|del|la|el|al)\s|d['’])"  # within names of places: Dar es Salaam, Côte d'Ivoire
_END = r"(?=['’]s?\b|['’]\s|[,.;:!?)]|\s(?-i:[^A-Z])|\s*\Z)"
_RUN = rf"{_WORD}(?:\s{JOINING}?{_WORD}){{0,3}}"
# Contexts that only places have: "growing up in Karachi", "moved to Hong Kong", "the city of Prague".
_LIVING = (
    r"born|raised|brought\sup|educated|gr[eo]w(?:ing|n|s)?\sup|liv(?:es?|ed|ing)|resid(?:es?|ed|ing)|based|settl(?:ed|ing)|"
    r"hail(?:s|ed|ing)?|upbringing|childhood|adolescence|youth"
)
_PLACE = re.compile(
    rf"\b(?:(?:{_LIVING})\s(?:in|from|at|near)|mov(?:e[ds]?|ing)\s(?:to|from)|(?:city|town|village|capital|suburbs?|"
    rf"outskirts)\sof)\s(?P<value>{_RUN}){_END}",
    re.IGNORECASE,
)
# A single capitalized word after such a preposition is a place too, unless the word before is about something else or,
# capitalized itself, part of a title.
_ELSEWHERE = (
    r"instil(?:l?s|led|ling)?|inspir\w+|interest\w*|faith|trust|pride|belie\w+|confid\w+|themes?|characters?|"
    r"look(?:s|ed|ing)?|evident|aimed|directed"
)
_AFTER_PREPOSITION = re.compile(
    rf"(?<!\S)(?!(?:{_ELSEWHERE})\s)[a-z]\S*\s(?:in|at|near)\s(?P<value>{_WORD})(?![\w’'+-])(?!\s{JOINING}?[A-Z])"
)
_ABSTRACT = re.compile(r"(?:ism|ics|ic|ian|ish|ese|logy|graphy|ture|ment|[ts]ion|ness|ance|ence|ing|ity|try|Sci-Fi)\Z")
_FIELD = re.compile(
    rf"\b(?:degrees?|diplomas?|doctorate|major(?:s|ed|ing)?|(?-i:Bachelor|Master)['’]s|(?:Ph|Sc|[BM])\.?D\.?|"
    rf"[BM]\.(?:A|Sc|F\.A)\.)\sin\s(?P<value>{_WORD}(?:\s(?:(?:and|of)\s)?{_WORD}){{0,3}}){_END}",
    re.IGNORECASE,
)


def places_in_context(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of words that the words before them make a place; a place may come twice."""
    places = (match for match in _PLACE.finditer(text) if match["value"].lower() not in _class_words())
    yield from (match.span("value") for match in places)
    after = (match for match in _AFTER_PREPOSITION.finditer(text) if not _is_common(match["value"]))
    yield from (match.span("value") for match in after)


def fields_of_study(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the fields in which a text states a degree."""
    return (match.span("value") for match in _FIELD.finditer(text))


def degrees(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of academic degrees, such as Bachelor's, Master of Arts and Ph.D."""
    return (match.span() for match in _degrees().finditer(text))


def lower_common_words(text: str) -> str:
    """Lower the case of capitalized words after a preposition that are no proper names: "in Geology", "in March"."""

    def lowered(match: re.Match[str]) -> str:
        return match.group().lower() if _is_common(match["value"]) else match.group()

    return _AFTER_PREPOSITION.sub(lowered, text)


def _is_common(word: str) -> bool:
    """Whether a capitalized word names a subject, a language, a month or the like."""
    return word.lower() in _class_words() or bool(_ABSTRACT.search(word))


@lru_cache(maxsize=1)
def _class_words() -> frozenset[str]:
    return frozenset(word.lower() for _, _, listed in CLASSES for word in listed)


@lru_cache(maxsize=1)
def _degrees() -> re.Pattern[str]:
    """Compile the pattern of degrees, the longest first; the last dot of an abbreviation is optional."""
    names = sorted({word for row in DEGREES for word in row}, key=len, reverse=True)
    spelled = (re.escape(name).replace("'", "['’]").removesuffix(r"\.") for name in names)
    dots = (r"\.?" if name.endswith(".") else "" for name in names)
    flags = ("(?i:{})" if name.islower() else "{}" for name in names)
    alternatives = (flag.format(word + dot) for flag, word, dot in zip(flags, spelled, dots, strict=True))
    return re.compile(rf"(?<![\w.-])(?:{'|'.join(alternatives)})(?!\w)")
