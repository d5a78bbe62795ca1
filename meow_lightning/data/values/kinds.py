"""Recognition of words that can be replaced by others of their kind, such as dates, numbers, addresses and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from meow_lightning.data.values.context import JOINING, degrees, fields_of_study, lower_common_words, places_in_context
from meow_lightning.data.values.word_lists import (
    CLASSES,
    COMPANY_ENDS,
    COUNTRY_NAMES,
    CUES,
    GENRES,
    JOBS,
    NATIONALITIES,
    PLACES,
    REGIONS,
    STREET_ENDS,
)

_NUMBER_WORDS = "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty"
NUMBER_WORDS = tuple(_NUMBER_WORDS.split())
# Kinds of values that identify a person or thing: these are generated, never borrowed, not even from retain facts.
PERSONAL = frozenset(("email", "url", "address", "phone", "code", "money", "date"))
_LEAST_PHONE, _MOST_PHONE = 7, 15  # digits; the maximum by ITU-T E.164
_CAPITAL = r"[^\W\d_a-z][\w'’.-]*\w"
_MORE = r"(?:\s+(?:for|of|in|the|de|and|&|[A-Z][\w'’.-]*))*?"
_CURRENCY = r"USD|EUR|GBP|CHF|SEK|NOK|DKK|PLN|CZK|CAD|AUD|INR|JPY|kr|zł"


@dataclass(frozen=True, slots=True)
class Span:
    """A span of some kind within a text: ``text[start:end]``."""

    kind: str
    start: int
    end: int
    text: str


def spans(text: str, question: str) -> tuple[Span, ...]:
    """Find the spans of known kinds in a text, in order, without nesting.

    Args:
        text: An answer or a value.
        question: The question, which disambiguates numbers and jobs.
    """
    return _spans(text, frozenset(cues(question)))


def kind_of(value: str, question: str) -> str | None:
    """Classify a value as a whole; ``None`` if its kind is unknown.

    Args:
        value: The words that carry a fact.
        question: The corresponding question.
    """
    matches = spans(value, question)
    bare = value.strip(" .,\"'")
    entire = [span.kind for span in matches if len(span.text) >= len(bare) and span.kind != "person"]
    classes = [name for name, _, words in CLASSES if bare.lower() in map(str.lower, words)]
    if entire or classes:
        return (entire or classes)[0]
    expected = cues(question)
    for kind in ("job", "genre"):
        if kind in expected:
            return kind
    if re.fullmatch(rf"{_CAPITAL}(?:\s+{_CAPITAL})*", value):
        return next((kind for kind in ("award", "company", "place", "title", "person") if kind in expected), None)
    return next((span.kind for span in matches if len(span.text) >= len(bare)), None)


@lru_cache(maxsize=8192)
def cues(question: str) -> tuple[str, ...]:
    """List the kinds and classes that a question asks for by its words."""
    return tuple(kind for kind, cue in _cues() if cue.search(question))


def asks_for(kind: str, question: str) -> bool:
    """Whether a question asks for a kind by its words; cheaper than :func:`cues`."""
    return any(name == kind and cue.search(question) for name, cue in _cues())


@lru_cache(maxsize=1)
def _cues() -> tuple[tuple[str, re.Pattern[str]], ...]:
    every = (*CUES.items(), *((name, cue) for name, cue, _ in CLASSES if cue))
    return tuple((name, re.compile(cue, re.IGNORECASE)) for name, cue in every)


@lru_cache(maxsize=16384)
def _spans(text: str, wanted: frozenset[str]) -> tuple[Span, ...]:
    spans_: list[Span] = []
    taken = bytearray(len(text))
    for kind, start, end in _matches(text, wanted):
        if start < end and not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            end -= len(text[start:end]) - len(_GENITIVE.sub("", text[start:end])) if kind == "person" else 0
            spans_.append(Span(kind, start, end, text[start:end]))
    return tuple(sorted(spans_, key=lambda span: span.start))


def _matches(text: str, wanted: frozenset[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (kind, start, end) of all matches, the most specific patterns first."""
    figures, quotes = bool(re.search(r"\d", text)), bool(re.search("[\"'“‘]", text))
    for kind, pattern in _formats():
        if (kind in _NUMERIC and not figures) or (kind == "title" and not quotes):
            continue
        for match in pattern.finditer(text):
            if kind == "phone" and not _LEAST_PHONE <= len(re.sub(r"\D", "", match.group())) <= _MOST_PHONE:
                continue
            bare = kind == "code" and match.group().isdigit()
            yield ("phone" if bare and "phone" in wanted else kind), *match.span()
    yield from _places(text)
    yield from (("academic degree", *span) for span in degrees(text))
    yield from (("degree", *span) for span in fields_of_study(text))
    yield from (("place", *span) for span in places_in_context(text))
    for name in ("polarity", *sorted(wanted & _classes().keys())):
        yield from ((name, *match.span()) for match in _classes()[name].finditer(text))
    for kind, pattern in _CUED:
        if kind in wanted:
            yield from ((kind, *match.span("value")) for match in pattern.finditer(text))
    yield from (("person", *match.span()) for match in NAME.finditer(lower_common_words(text)))


def _places(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield known towns with or without their country, countries and nationalities."""
    named = [(match.start(), match.end()) for match in _CAPITALS.finditer(text)]
    for first, (start, _) in enumerate(named):
        for _, end in reversed(named[first : first + LONGEST_PLACE]):
            words = text[start:end]
            if _SPLIT.search(words):
                continue
            if words.count(", ") == 1 and words.rpartition(", ")[2] in countries():
                yield "place", start, end
                continue
            kind = _geography().get(words)
            # "Ada" is also a town, but not in the name "Ada Brook".
            if kind and (kind != "place" or not _NAMED_BESIDE.search(f"{text[:start]}\0{text[end:]}")):
                yield kind, start, end


def _pattern(*alternatives: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), flags)


@lru_cache(maxsize=1)
def months() -> dict[str, tuple[str, str, int]]:
    """Map lower-case month names to (language, width, number from 1), as in Babel."""
    from babel.dates import get_month_names

    names: dict[str, tuple[str, str, int]] = {}
    for language in ("en", "de", "fr", "es", "it", "nl", "pt", "sv", "nb", "pl"):
        for width in ("wide", "abbreviated"):
            for number, name in get_month_names(width, locale=language).items():
                names.setdefault(name.rstrip(".").lower(), (language, width, number))
    return names


@lru_cache(maxsize=1)
def countries() -> frozenset[str]:
    """Return the English country names of Babel."""
    from babel import Locale

    names = {name for code, name in Locale("en").territories.items() if len(code) == 2 and code.isalpha()}
    return frozenset(names) | frozenset(COUNTRY_NAMES)


@lru_cache(maxsize=1)
def cities() -> frozenset[str]:
    """Return the larger cities and the capitals of Faker and the cities of our word lists."""
    from faker.providers import date_time, geo

    capitals = frozenset(country.capital for country in date_time.Provider.countries)
    return capitals.union((row[2] for row in geo.Provider.land_coords), (city for city, _, _ in PLACES))


@lru_cache(maxsize=1)
def _geography() -> dict[str, str]:
    """Map geographic names to their kind; ambiguous names count as country, then as nationality."""
    names = dict.fromkeys(cities(), "place") | dict.fromkeys((*NATIONALITIES, *REGIONS), "nationality")
    return names | dict.fromkeys(countries(), "country")


@lru_cache(maxsize=1)
def _classes() -> dict[str, re.Pattern[str]]:
    """Compile a pattern for every closed class, the longest words first."""
    patterns = {}
    for name, _, words in CLASSES:
        patterns[name] = _words(words, flags=0 if name in ("polarity", "month", "language") else re.IGNORECASE)
    # Yes and no are answers only at the beginning; within a sentence, "no" is a function word.
    patterns["polarity"] = re.compile(r"\A\W*(?:Yes|No)\b(?=\W|\Z)", re.IGNORECASE)
    return patterns


def _words(words: tuple[str, ...], *, flags: int) -> re.Pattern[str]:
    listed = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?<![\w+-])(?:{listed})(?![\w+-])", flags)


@lru_cache(maxsize=1)
def _formats() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Compile the patterns of kinds with a written format, the most specific first."""
    return (*_figure_formats(), *_name_formats())


def _figure_formats() -> Iterator[tuple[str, re.Pattern[str]]]:
    month = "|".join(sorted(map(re.escape, months()), key=len, reverse=True))
    ends = "|".join(STREET_ENDS.split())
    day = r"\d{1,2}(?:st|nd|rd|th)?\.?"
    yield "email", re.compile(r"[\w.+\\-]+@[\w-]+(?:\.[\w-]+)+")
    yield "url", re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]+[^\s<>\"')\].,;]")
    unit = r"(?:,?\s*(?:#\s?|Apt\.?\s|Apartment\s|Unit\s|Flat\s|Suite\s)[\w-]+(?:\s[A-Z]?\d+)?)?"
    state, postcode = r",\s*[A-Z]{2},?\s+\d{5}(?:-\d{4})?", r"[ ,]+[A-Z]{1,2}\d[\dA-Z]?\s\d[A-Z]{2}"
    word = r"[A-Z][^\W\dA-Z]+"
    town = rf"(?:,\s*{word}(?:[ -]{word})*(?:{state}|{postcode})?)?"
    code = r"(?:,\s*(?:\d{2,5}(?:[ -]\d{2,3})?\s+)[A-Z][\w-]+)?"
    yield "address", _pattern(
        rf"\b\d{{1,6}}[A-Za-z]?\s+(?:[A-Z\d][\w'’.-]*\s+){{0,5}}[A-Z\d][\w'’.-]*\s+(?:{ends})\b(?:\.(?=,|\s+[a-z#]))?"
        rf"(?:\s(?:North|South|East|West|[NSEW]{{1,2}})\b)?{unit}{town}",
        rf"\b[A-Z]\w*(?:straße|strasse|gasse|weg|platz|allee|gatan|gata|vägen|veien|vej|laan|straat)\s+\d+[a-z]?\b{code}",
        rf"\b(?:ul\.|Rua|Via|Calle|Piazza|Plaza|Avenida)\s+(?:[A-Z][\w'’-]+\s?)+,?\s+\d+[a-z]?\b{code}",
        rf"\b\d+,?\s+(?:rue|avenue|boulevard)\s+(?:de\s|du\s|des\s|la\s)*(?:[A-Z][\w'’-]+\s?)+(?<!\s){code}",
    )  # fmt: skip
    yield "date", _pattern(
        r"\b\d{4}-\d{2}-\d{2}\b", r"\b\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})\b",
        rf"\b{day}\s+(?:of\s+)?(?:{month})\b\.?(?:,?\s+(?:of\s+)?\d{{4}})?",
        rf"\b(?:{month})\b\.?\s+\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s+\d{{4}})?",
        rf"\b(?:{month})\b\.?,?\s+(?:of\s+)?\d{{4}}\b",
        flags=re.IGNORECASE,
    )  # fmt: skip
    amount = r"\d{1,3}(?:[.,'’ \u00a0]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
    yield (
        "money",
        _pattern(
            rf"(?:[$£€¥]|\b(?:{_CURRENCY})\s?)\s?(?:{amount})(?!\w)",
            rf"\b(?:{amount})\s?(?:€|£|\$|(?:{_CURRENCY}|[Ee]uros?|[Dd]ollars?|[Pp]ounds?|[Ff]rancs?|Franken|kron[oe]r|zlotys?|yen|rupees)\b)",
        ),
    )
    yield "code", _pattern(
        r"\b\d{3}-\d{2}-\d{4}\b", r"\b[A-Z]{2}\d{2}(?:\s?[\dA-Z]{4}){2,7}(?:\s?[\dA-Z]{1,4})?\b(?<=\d)",
        r"\b[A-Z]{1,3}[- ][A-Z]{1,3}[- ]\d{1,4}\b",
        r"\b[A-Z]{1,6}[-/]?\d{2,}(?:[-/]?[\dA-Z]+)*\b", r"\b\d+[A-Z]+[\dA-Z]*\b", r"\b\d+[-/][A-Z][\dA-Z/-]*\b",
    )  # fmt: skip
    yield "phone", _pattern(r"(?:\+|\b00|\(0?)\d[\d\s().-]{5,}\d\b", r"\b\d{2,5}[\s./-]\d{2,}(?:[\s./-]?\d{2,})*\b")
    yield "code", re.compile(r"\b\d{5,}\b")
    yield "time", re.compile(r"\b\d{1,2}:\d{2}\b")
    yield "decade", re.compile(r"\b(?:1[5-9]|20)\d0s\b|(?<=\s)[‘’']?\d0s\b")
    yield "year", re.compile(r"\b(?:1[5-9]\d\d|20\d\d)\b")
    yield "number", re.compile(r"\b\d+(?:[.,]\d+)*(?![\w])")


def _name_formats() -> Iterator[tuple[str, re.Pattern[str]]]:
    yield "award", _pattern(
        rf"(?:\b{_CAPITAL}{_MORE}\s+)?\b(?:Awards?|Prizes?|Medals?|Fellowship|Laureate|Honou?rs?)\b"
        rf"(?:\s+(?:for|of|in)\s+(?:the\s+)?{_CAPITAL}(?:{_MORE}\s+{_CAPITAL})?)?", rf"\bPrix\s+{_CAPITAL}",
    )  # fmt: skip
    yield "title", _pattern(r"[\"“][^\"“”\n]{2,90}[\"”]", r"(?<!\w)['‘][A-Z](?:[^'’\n]|['’]\w){1,90}['’](?!\w)")
    yield (
        "company",
        _pattern(
            rf"\b{_CAPITAL}(?:\s+(?:{_CAPITAL}|of|and|&))*?\s+(?:{'|'.join(COMPANY_ENDS.split())})\b(?:\s(?:Ltd|Inc|AG|GmbH)\b)?",
            rf"\bUniversity of {_CAPITAL}",
        ),
    )


LONGEST_PLACE = 4  # maximum number of capitalized words in a town with its country
_SPLIT = re.compile(rf"(?<!\S)(?!{JOINING})[a-z]|[.;:!?]\s|\n")
_CAPITALS = re.compile(r"(?<![\w-])[^\W\d_a-z][\w’'.-]*\w(?![\w+])")
_NUMERIC = frozenset(("address", "date", "money", "code", "phone", "time", "decade", "year", "number"))
_GENITIVE = re.compile(r"(?:['’]s?)?\Z")
_STOP = r"(?=\s+(?:and|who|with|in|at|of|for|by|while|whose|which|when|to|from|but|on)\b|[,.;]|\s*\Z)"
_LEADS = "The|A|An|In|At|On|He|She|His|Her|It|They|Their|Yes|No|And|But|One|Two|This|That|Both|Author|As|When|While"
_NAMED_BESIDE = re.compile(rf"\0 [A-Z]|\b(?!(?:{_LEADS}|From|To|Near|For|Of|Since)\b)[A-Z][\w.'’-]* \0")
NAME = re.compile(
    rf"\b(?!(?:{_LEADS})\b)[A-Z][\w’'.-]*\w(?:\s+(?:de |van |von |al-|bin )?[A-Z][\w’'.-]*\w|\s+[A-Z]\.)+|"
    rf"(?<=[a-z0-9,;:] )(?!(?:{_LEADS})\b)[A-Z][\w’'.-]*[a-z]"
)
_TRADE = r"(?:er|or|ist|ian|man|woman|ant|ent|eer|yst|tect|nurse|chef|pilot|judge|athlete|clerk|guide|smith|surgeon)"
_CUED = (
    ("job", _pattern(
        rf"\b(?:{'|'.join(sorted(JOBS, key=len, reverse=True))})\b".replace(r"\b(?:", r"\b(?P<value>", 1),
    )),
    ("job", re.compile(
        rf"\b(?:was|is|as|were|being)\s+an?\s+(?P<value>(?:[A-Za-z]+\s){{0,2}}?[A-Za-z-]*{_TRADE}){_STOP}"
    )),
    ("number", re.compile(rf"\b(?P<value>{'|'.join(NUMBER_WORDS)})\b", re.IGNORECASE)),
    ("genre", re.compile(rf"\b(?P<value>{'|'.join(sorted(GENRES, key=len, reverse=True))})\b", re.IGNORECASE)),
    ("genre", re.compile(r"\b(?:in|of) the (?P<value>[\w'’-]+(?: [\w'’-]+){0,3}?) (?:literary )?genre")),
    ("genre", re.compile(r"\bgenre of (?P<value>[\w'’-]+(?: [\w'’-]+){0,2})(?=[,.;]|\s*\Z)")),
)  # fmt: skip
