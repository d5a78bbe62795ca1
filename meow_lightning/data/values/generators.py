"""Generators of values of a kind in a given format: another date for a date, another number for a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from meow_lightning.data.values import figures
from meow_lightning.data.values.invented import invented_name
from meow_lightning.data.values.word_lists import (
    AWARD_FIRST,
    CLASSES,
    COMPANY_ENDS,
    DEGREES,
    FEMALE,
    GENRES,
    JOBS,
    MALE,
    PLACES,
    REGIONS,
    STREET_ENDS,
    TITLE_FIRST,
    TITLE_SECOND,
    TITLE_THIRD,
)

_CLASS_WORDS = {name: words for name, _, words in CLASSES}
# The last one is also a US state.
_WITH_ARTICLE = (
    "United States",
    "United Kingdom",
    "Netherlands",
    "Philippines",
    "Georgia",
)
_TITLED = re.compile(r"(?:Mr|Mrs|Ms|Dr|Prof|Professor|Miss|Sir|Frau|Herr)\.?\Z")
_SAFE = ("example.com", "example.org", "example.net")  # RFC 2606: reserved, so no real address


@dataclass(frozen=True, slots=True)
class Hints:
    """Constraints on a generated value.

    Attributes:
        gender: ``female`` or ``male`` of a person in the text, if known.
        genders: Gender by name, for the subjects of other facts.
        keep: Lower-case words to keep: those of the question.
        known: Values of retain facts by kind, to use instead of generated ones.
        locale: Country of Faker's names of persons, by the language of the fact.
    """

    gender: str | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    locale: str = "en_US"


def generate_value(kind: str, old: str, rng: Random, hints: Hints) -> str | None:
    """Generate words of a kind in the format of ``old``, by chance ``old`` itself; ``None`` if there is no generator.

    Args:
        kind: A kind of :func:`~.kinds.spans`.
        old: The words to replace.
        rng: The random generator, also for Faker.
        hints: Constraints.
    """
    if kind in _CLASS_WORDS:
        others = [word for word in _CLASS_WORDS[kind] if word.lower() != old.lower()]
        return figures.cased(rng.choice(others), old)
    known = [value for value in hints.known.get(kind, ()) if value.lower() != old.lower()]
    if known and rng.random() < 0.5:
        return rng.choice(known)
    if kind in _FIGURES:
        return _FIGURES[kind](old, rng)
    return _GENERATORS[kind](old, rng, hints) if kind in _GENERATORS else None


def fix_article(text: str, start: int, word: str) -> str:
    """Adapt the last "a" or "an" before ``start`` to ``word``; return the text before ``start``."""
    before = text[:start]
    match = re.search(r"\b([Aa])n?(\s+[\"“'‘]?)\Z", before)
    if not match or not word[:1].isalpha():
        return before
    return before[: match.start()] + match.group(1) + ("n" if _vowel(word) else "") + match.group(2)


def gender_of(text: str) -> str | None:
    """Infer ``female`` or ``male`` from the majority of a text's pronouns and titles; ``None`` if undecided."""
    words = re.findall(r"[a-z]+", text.lower())
    female, male = sum(word in FEMALE for word in words), sum(word in MALE for word in words)
    if female == male:
        return None
    return "female" if female > male else "male"


@lru_cache(maxsize=1)
def first_names() -> dict[str, str]:
    """Map lower-case first names of Faker's lists to ``female`` or ``male``, without names of both."""
    female, male = set[str](), set[str]()
    for provider in _people():
        female |= {name.lower() for name in provider.first_names_female}
        male |= {name.lower() for name in provider.first_names_male}
    return {name: "female" for name in female - male} | {name: "male" for name in male - female}


@lru_cache(maxsize=1)
def _surnames() -> frozenset[str]:
    return frozenset(name for provider in _people() for name in provider.last_names) - {
        name.title() for name in first_names()
    }


@lru_cache(maxsize=1)
def _given_names() -> frozenset[str]:
    return frozenset(name.lower() for provider in _people() for name in provider.first_names)


def names_person(text: str) -> bool:
    """Whether capitalized words name a person, as far as titles and Faker's lists of names tell.

    Args:
        text: The words.
    """
    first, *others = text.split()
    if _TITLED.match(first) or first.lower() in _given_names():
        return True
    return not others and first in _surnames()


def _people() -> Iterable[Any]:
    from faker.providers.person import de_DE, en_GB, en_US, es_ES, fr_FR, it_IT, pl_PL, sv_SE

    return (module.Provider for module in (en_US, en_GB, de_DE, fr_FR, es_ES, it_IT, sv_SE, pl_PL))


def _vowel(word: str) -> bool:
    """Whether a word begins with a vowel sound, judged by its letters."""
    if re.match(r"M(?:\.|Sc\b|BA\b)", word):
        return True
    lower = word.lower()
    if re.match(r"(?:uni(?!n)|us[aei]|eu|one|once|ufo|ukr|ur[uo]|utr)", lower):
        return False
    return lower[0] in "aeiou" or lower.startswith(("hour", "honest", "honou", "heir"))


@lru_cache(maxsize=16)
def _faker(locale: str) -> Any:
    from faker.factory import Factory

    return Factory.create(locale, providers=["faker.providers.person", "faker.providers.address"])


def _fake(rng: Random, locale: str = "en_US") -> Any:
    """Return Faker for a country, seeded with this random generator."""
    fake = _faker(locale)
    fake.random = rng
    return fake


def _email(old: str, rng: Random, hints: Hints) -> str:
    """Generate an address at a reserved domain; initials and the question's first name stay."""
    local = old.partition("@")[0]
    fake = _fake(rng)

    def part(match: re.Match[str]) -> str:
        if len(match.group()) < 3 or (not match.start() and match.group().lower() in hints.keep):
            return match.group()
        name = fake.last_name() if match.start() else _first_name(rng, hints.gender)
        return str(name if match.group()[0].isupper() else name.lower())

    named = re.sub(r"[^\W\d_]+", part, local)
    return f"{figures.digits(named, rng)}@{rng.choice(_SAFE)}"


def _url(old: str, rng: Random, hints: Hints) -> str:
    head = re.match(r"(?:https?://)?(?:www\.)?", old)
    return f"{head.group() if head else ''}{_fake(rng).last_name().lower()}.{rng.choice(_SAFE)}"


def _first_name(rng: Random, gender: str | None, locale: str = "en_US") -> str:
    fake = _fake(rng, locale)
    if gender is None:
        return str(fake.first_name())
    return str(fake.first_name_female() if gender == "female" else fake.first_name_male())


def _person(old: str, rng: Random, hints: Hints) -> str:
    """Generate a name of as many parts, of the same gender if a first name reveals it; the question's words stay."""
    parts = re.findall(r"\S+", old)
    # A name's own gender takes precedence over that of the surrounding text, which may be about another person.
    first = next((each for part in parts if (each := first_names().get(part.lower()))), None)
    gender = hints.genders.get(old) or first or hints.gender
    titled = bool(_TITLED.match(parts[0]))
    new = []
    for place, part in enumerate(parts[:4]):
        if part.lower().strip(".,") in hints.keep or (titled and place == 0):
            new.append(part)
        elif re.fullmatch(r"[A-Z]\.", part):
            new.append(f"{rng.choice('ABCDEFGHJKLMNPRSTW')}.")
        elif place == 0 and (len(parts) > 1 or part not in _surnames()):
            new.append(_first_name(rng, gender, hints.locale))
        else:
            new.append(str(_fake(rng, hints.locale).last_name()).partition(" ")[0])
    return " ".join(new)


def _place(old: str, rng: Random, hints: Hints) -> str:
    city, country, _ = rng.choice([row for row in PLACES if row[0] not in old and row[1] not in old])
    return f"{city}, {country}" if ", " in old else city


def _country(old: str, rng: Random, hints: Hints) -> str:
    return rng.choice([row for row in PLACES if row[1] not in (old, *_WITH_ARTICLE)])[1]


def _nationality(old: str, rng: Random, hints: Hints) -> str:
    if old in REGIONS:
        return rng.choice([region for region in REGIONS if region != old])
    people = dict.fromkeys(row[2] for row in PLACES if row[2] not in (old, "New Zealander", "Filipino"))
    return rng.choice(tuple(people))


def _address(old: str, rng: Random, hints: Hints) -> str:
    """Generate another street, town and postal code of the same country, in the same order."""
    fake = _fake(rng, next((locale for locale, words in _COUNTRIES if re.search(words, old)), "en_US"))
    head, *rest = re.split(r"(,\s*)", old)
    ends = "|".join(STREET_ENDS.split())
    suffix = re.search(_SUFFIXES, head)

    def street(match: re.Match[str]) -> str:
        word = match.group()
        if re.fullmatch(rf"(?:{ends})\.?|[NSEW]{{1,2}}|North|South|East|West", word):
            return word
        joined = suffix is not None and word.endswith(suffix.group())
        return f"{fake.last_name()}{suffix.group()}" if joined and suffix else str(fake.last_name())

    name = r"[A-Z][^\W\d][\w'’.-]*"
    named = re.sub(rf"(?!{_LEADS}){name}(?:\s(?!(?:{ends})\b){name})*", street, head)
    new = figures.digits(re.sub(r"\d+(?:st|nd|rd|th)\b", lambda _: _nth(rng), named), rng)
    new = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda match: match.group(1) + figures.ordinal(int(match.group(1))), new)
    return new + "".join(part if place % 2 == 0 else _town(part, rng, fake) for place, part in enumerate(rest))


_SUFFIXES = r"(?:straße|strasse|gasse|weg|platz|allee|gatan|gata|vägen|veien|vej|laan|straat)\b"
_LEADS = r"(?:ul\.|Rua|Via|Calle|Piazza|Plaza|Avenida|rue|avenue|boulevard|de|du|des|la)\b"
_COUNTRIES = (
    ("sv_SE", r"(?:gatan|vägen)\b"), ("no_NO", r"(?:gata|veien)\b"), ("da_DK", r"vej\b"),
    ("nl_NL", r"(?:laan|straat)\b"),
    ("de_DE", _SUFFIXES), ("pl_PL", r"\bul\."), ("pt_PT", r"\bRua\b"), ("it_IT", r"\b(?:Via|Piazza)\b"),
    ("es_ES", r"\b(?:Calle|Plaza|Avenida)\b"), ("fr_FR", r"\b(?:rue|avenue|boulevard)\b"),
    ("en_GB", r"\b[A-Z]{1,2}\d[\dA-Z]?\s\d[A-Z]{2}\b"),
)  # fmt: skip


def _nth(rng: Random) -> str:
    number = rng.randint(2, 98)
    return f"{number}{figures.ordinal(number)}"


def _town(part: str, rng: Random, fake: Any) -> str:
    """Replace an address component after a comma: a unit, a town, a state or a code."""
    if re.fullmatch(r"[A-Z]{2}(?:\s+\d{5}(?:-\d{4})?)?", part):
        state = _fake(rng).state_abbr(include_territories=False, include_freely_associated_states=False)
        return str(state) + figures.digits(part[2:], rng)
    if re.match(r"(?:#|Apt|Apartment|Unit|Flat|Suite)", part):
        return figures.digits(part, rng)
    town = str(fake.city())
    return figures.digits(re.sub(r"[A-Z][^\W\dA-Z]+(?:[ -][A-Z][^\W\dA-Z]+)*", town, part), rng)


def _job(old: str, rng: Random, hints: Hints) -> str:
    return figures.cased(rng.choice([job for job in JOBS if job != old.lower()]), old)


def _genre(old: str, rng: Random, hints: Hints) -> str:
    tail = re.search(r" (?:genre|literature)\Z", old)
    new = figures.cased(rng.choice([genre for genre in GENRES if genre not in old.lower()]), old)
    return new + (" genre" if tail and tail.group() == " genre" else "")


def _title(old: str, rng: Random, hints: Hints) -> str:
    """Generate a title in the quotes of the old one, with the punctuation before the closing quote."""
    quotes = re.fullmatch(r"([\"“'‘]?).*?([,.]?[\"”'’]?)", old, re.DOTALL)
    first, second, third = map(rng.choice, (TITLE_FIRST, TITLE_SECOND, TITLE_THIRD))
    names = (f"The {first} {second}", f"{first} {second}", f"Beyond the {first} {second}", f"{second} of {third}")
    name = rng.choice(names)
    return f"{quotes.group(1)}{name}{quotes.group(2)}" if quotes else name


def _award(old: str, rng: Random, hints: Hints) -> str:
    """Generate an award of the same type, in the quotes of the old one."""
    match = re.search(r"Awards?|Prizes?|Medals?|Fellowship|Honou?rs?", old)
    lead = "Literary " if re.search(r"Litera|Book|Prix|Writ", old) else ""
    return f"{rng.choice(AWARD_FIRST)} {lead}{match.group() if match else 'Prize'}"


def _company(old: str, rng: Random, hints: Hints) -> str:
    """Generate a name followed by the old one's company type."""
    if old.startswith("University of "):
        return f"University of {rng.choice(PLACES)[0]}"
    ends = re.search(rf"(?:\s(?:{'|'.join(COMPANY_ENDS.split())})\b)+\Z", old)
    return f"{_fake(rng).last_name()}{ends.group() if ends else ''}"


def _invented(old: str, rng: Random, hints: Hints) -> str:
    return invented_name(old, rng, keep=hints.keep, taken=_given_names())


def _degree(old: str, rng: Random, hints: Hints) -> str:
    """Draw a degree of another level in the same form of writing."""
    plain = old.replace("’", "'").rstrip(".").lower()
    levels = next(row for row in DEGREES if plain in (name.rstrip(".").lower() for name in row))
    new = rng.choice([name for name in levels if name.rstrip(".").lower() != plain])
    return figures.cased(new, old) if levels is DEGREES[0] else new


_FIGURES: dict[str, Callable[[str, Random], str]] = {
    "phone": figures.phone, "code": figures.code, "money": figures.money, "date": figures.date, "year": figures.year,
    "decade": figures.decade, "time": figures.time, "number": figures.number,
}  # fmt: skip
_GENERATORS: dict[str, Callable[[str, Random, Hints], str]] = {
    "email": _email, "url": _url, "person": _person, "place": _place, "country": _country, "address": _address,
    "nationality": _nationality, "job": _job, "genre": _genre, "title": _title, "award": _award, "company": _company,
    "academic degree": _degree, "name": _invented,
}  # fmt: skip
