"""Makes words of a kind, in the written form of others: another date for a date, another number for a number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from meow_lightning.data.values import figures
from meow_lightning.data.values.word_lists import (
    AWARD_FIRST,
    CLASSES,
    COMPANY_ENDS,
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
_WITH_ARTICLE = (
    "United States",
    "United Kingdom",
    "Netherlands",
    "Philippines",
    "Georgia",
)  # the last names a state too
_SAFE = ("example.com", "example.org", "example.net")  # RFC 2606: nobody can own an address there


@dataclass(frozen=True, slots=True)
class Hints:
    """What a made-up value must agree with.

    Attributes:
        gender: ``female`` or ``male`` of a person in the text, where it is known.
        genders: The same by name, for people that other facts are about.
        keep: Words, in lower case, that stay as they are: those of the question.
        known: Values of kept facts by kind, to take instead of made-up ones.
    """

    gender: str | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def generate_value(kind: str, old: str, dice: Random, hints: Hints) -> str | None:
    """Other words of a kind in the form of ``old``; ``None`` where none can be made. They may be ``old`` by chance.

    Args:
        kind: What :func:`~.kinds.spans` calls them.
        old: The words they take the place of.
        dice: Where chance comes from, Faker's too.
        hints: What they must agree with.
    """
    if kind in _CLASS_WORDS:
        others = [word for word in _CLASS_WORDS[kind] if word.lower() != old.lower()]
        return figures.cased(dice.choice(others), old)
    known = [value for value in hints.known.get(kind, ()) if value.lower() != old.lower()]
    if known and dice.random() < 0.5:
        return dice.choice(known)
    if kind in _FIGURES:
        return _FIGURES[kind](old, dice)
    return _MAKERS[kind](old, dice, hints) if kind in _MAKERS else None


def fix_article(text: str, start: int, word: str) -> str:
    """The text before ``start`` with its last "a" or "an" as ``word`` wants it; the same where there is none."""
    before = text[:start]
    found = re.search(r"\b([Aa])n?(\s+[\"“'‘]?)\Z", before)
    if not found or not word[:1].isalpha():
        return before
    return before[: found.start()] + found.group(1) + ("n" if _vowel(word) else "") + found.group(2)


def gender_of(text: str) -> str | None:
    """``female`` or ``male``, whichever a text's pronouns and titles say more often; ``None`` where they do not say."""
    words = re.findall(r"[a-z]+", text.lower())
    female, male = sum(word in FEMALE for word in words), sum(word in MALE for word in words)
    if female == male:
        return None
    return "female" if female > male else "male"


@lru_cache(maxsize=1)
def first_names() -> dict[str, str]:
    """``female`` or ``male`` by first name in lower case, from Faker's lists; names of both are left out."""
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


def _people() -> Iterable[Any]:
    from faker.providers.person import de_DE, en_GB, en_US, es_ES, fr_FR, it_IT, pl_PL, sv_SE

    return (module.Provider for module in (en_US, en_GB, de_DE, fr_FR, es_ES, it_IT, sv_SE, pl_PL))


def _vowel(word: str) -> bool:
    """Whether a word begins with a vowel sound, as far as its letters tell."""
    lower = word.lower()
    if re.match(r"(?:uni(?!n)|us[aei]|eu|one|once|ufo|ukr|ur[uo]|utr)", lower):
        return False
    return lower[0] in "aeiou" or lower.startswith(("hour", "honest", "honou", "heir"))


@lru_cache(maxsize=16)
def _faker(locale: str) -> Any:
    from faker.factory import Factory

    return Factory.create(locale, providers=["faker.providers.person", "faker.providers.address"])


def _fake(dice: Random, locale: str = "en_US") -> Any:
    """Faker's words of a country, drawn with these dice."""
    fake = _faker(locale)
    fake.random = dice
    return fake


def _email(old: str, dice: Random, hints: Hints) -> str:
    """Another address at a domain that nobody can own; initials and the question's first name stay."""
    local = old.partition("@")[0]
    fake = _fake(dice)

    def part(found: re.Match[str]) -> str:
        if len(found.group()) < 3 or (not found.start() and found.group().lower() in hints.keep):
            return found.group()
        name = fake.last_name() if found.start() else _first_name(dice, hints.gender)
        return str(name if found.group()[0].isupper() else name.lower())

    named = re.sub(r"[^\W\d_]+", part, local)
    return f"{figures.digits(named, dice)}@{dice.choice(_SAFE)}"


def _url(old: str, dice: Random, hints: Hints) -> str:
    head = re.match(r"(?:https?://)?(?:www\.)?", old)
    return f"{head.group() if head else ''}{_fake(dice).last_name().lower()}.{dice.choice(_SAFE)}"


def _first_name(dice: Random, gender: str | None) -> str:
    fake = _fake(dice)
    if gender is None:
        return str(fake.first_name())
    return str(fake.first_name_female() if gender == "female" else fake.first_name_male())


def _person(old: str, dice: Random, hints: Hints) -> str:
    """Another name of as many parts, the gender kept where a first name tells it; the question's words stay."""
    parts = re.findall(r"\S+", old)
    # A name's own gender goes before that of the text around it, which may be about somebody else.
    first = next((each for part in parts if (each := first_names().get(part.lower()))), None)
    told = hints.genders.get(old) or first or hints.gender
    titled = bool(re.match(r"(?:Mr|Mrs|Ms|Dr|Prof|Professor|Miss|Sir)\.?\Z", parts[0]))
    new = []
    for place, part in enumerate(parts[:4]):
        if part.lower().strip(".,") in hints.keep or (titled and place == 0):
            new.append(part)
        elif re.fullmatch(r"[A-Z]\.", part):
            new.append(f"{dice.choice('ABCDEFGHJKLMNPRSTW')}.")
        elif place == 0 and (len(parts) > 1 or part not in _surnames()):
            new.append(_first_name(dice, told))
        else:
            new.append(str(_fake(dice).last_name()))
    return " ".join(new)


def _place(old: str, dice: Random, hints: Hints) -> str:
    city, country, _ = dice.choice([row for row in PLACES if row[0] not in old and row[1] not in old])
    return f"{city}, {country}" if ", " in old else city


def _country(old: str, dice: Random, hints: Hints) -> str:
    return dice.choice([row for row in PLACES if row[1] not in (old, *_WITH_ARTICLE)])[1]


def _nationality(old: str, dice: Random, hints: Hints) -> str:
    if old in REGIONS:
        return dice.choice([region for region in REGIONS if region != old])
    people = dict.fromkeys(row[2] for row in PLACES if row[2] not in (old, "New Zealander", "Filipino"))
    return dice.choice(tuple(people))


def _address(old: str, dice: Random, hints: Hints) -> str:
    """Another street, town and code of the same country, in the same order."""
    fake = _fake(dice, next((locale for locale, words in _COUNTRIES if re.search(words, old)), "en_US"))
    head, *rest = re.split(r"(,\s*)", old)
    ends = "|".join(STREET_ENDS.split())
    suffix = re.search(_SUFFIXES, head)

    def street(found: re.Match[str]) -> str:
        word = found.group()
        if re.fullmatch(rf"(?:{ends})\.?|[NSEW]{{1,2}}|North|South|East|West", word):
            return word
        joined = suffix is not None and word.endswith(suffix.group())
        return f"{fake.last_name()}{suffix.group()}" if joined and suffix else str(fake.last_name())

    name = r"[A-Z][^\W\d][\w'’.-]*"
    named = re.sub(rf"(?!{_LEADS}){name}(?:\s(?!(?:{ends})\b){name})*", street, head)
    new = figures.digits(re.sub(r"\d+(?:st|nd|rd|th)\b", lambda _: _nth(dice), named), dice)
    new = re.sub(r"\b(\d+)(?:st|nd|rd|th)\b", lambda found: found.group(1) + figures.ordinal(int(found.group(1))), new)
    return new + "".join(part if place % 2 == 0 else _town(part, dice, fake) for place, part in enumerate(rest))


_SUFFIXES = r"(?:straße|strasse|gasse|weg|platz|allee|gatan|gata|vägen|veien|vej|laan|straat)\b"
_LEADS = r"(?:ul\.|Rua|Via|Calle|Piazza|Plaza|Avenida|rue|avenue|boulevard|de|du|des|la)\b"
_COUNTRIES = (
    ("sv_SE", r"(?:gatan|vägen)\b"), ("no_NO", r"(?:gata|veien)\b"), ("da_DK", r"vej\b"),
    ("nl_NL", r"(?:laan|straat)\b"),
    ("de_DE", _SUFFIXES), ("pl_PL", r"\bul\."), ("pt_PT", r"\bRua\b"), ("it_IT", r"\b(?:Via|Piazza)\b"),
    ("es_ES", r"\b(?:Calle|Plaza|Avenida)\b"), ("fr_FR", r"\b(?:rue|avenue|boulevard)\b"),
    ("en_GB", r"\b[A-Z]{1,2}\d[\dA-Z]?\s\d[A-Z]{2}\b"),
)  # fmt: skip


def _nth(dice: Random) -> str:
    number = dice.randint(2, 98)
    return f"{number}{figures.ordinal(number)}"


def _town(part: str, dice: Random, fake: Any) -> str:
    """A part of an address behind a comma: a unit, a town, a state or a code."""
    if re.fullmatch(r"[A-Z]{2}(?:\s+\d{5}(?:-\d{4})?)?", part):
        state = _fake(dice).state_abbr(include_territories=False, include_freely_associated_states=False)
        return str(state) + figures.digits(part[2:], dice)
    if re.match(r"(?:#|Apt|Apartment|Unit|Flat|Suite)", part):
        return figures.digits(part, dice)
    town = str(fake.city())
    return figures.digits(re.sub(r"[A-Z][^\W\dA-Z]+(?:[ -][A-Z][^\W\dA-Z]+)*", town, part), dice)


def _job(old: str, dice: Random, hints: Hints) -> str:
    return figures.cased(dice.choice([job for job in JOBS if job != old.lower()]), old)


def _genre(old: str, dice: Random, hints: Hints) -> str:
    tail = re.search(r" (?:genre|literature)\Z", old)
    new = figures.cased(dice.choice([genre for genre in GENRES if genre not in old.lower()]), old)
    return new + (" genre" if tail and tail.group() == " genre" else "")


def _title(old: str, dice: Random, hints: Hints) -> str:
    """A made-up title in the old one's quotes, with what stands before the closing one."""
    quotes = re.fullmatch(r"([\"“'‘]?).*?([,.]?[\"”'’]?)", old, re.DOTALL)
    first, second, third = map(dice.choice, (TITLE_FIRST, TITLE_SECOND, TITLE_THIRD))
    names = (f"The {first} {second}", f"{first} {second}", f"Beyond the {first} {second}", f"{second} of {third}")
    name = dice.choice(names)
    return f"{quotes.group(1)}{name}{quotes.group(2)}" if quotes else name


def _award(old: str, dice: Random, hints: Hints) -> str:
    """A made-up award of the same word, in the quotes of the old one."""
    found = re.search(r"Awards?|Prizes?|Medals?|Fellowship|Honou?rs?", old)
    lead = "Literary " if re.search(r"Litera|Book|Prix|Writ", old) else ""
    return f"{dice.choice(AWARD_FIRST)} {lead}{found.group() if found else 'Prize'}"


def _company(old: str, dice: Random, hints: Hints) -> str:
    """A made-up name before the words that say what it is."""
    if old.startswith("University of "):
        return f"University of {dice.choice(PLACES)[0]}"
    ends = re.search(rf"(?:\s(?:{'|'.join(COMPANY_ENDS.split())})\b)+\Z", old)
    return f"{_fake(dice).last_name()}{ends.group() if ends else ''}"


_FIGURES: dict[str, Callable[[str, Random], str]] = {
    "phone": figures.phone, "code": figures.code, "money": figures.money, "date": figures.date, "year": figures.year,
    "decade": figures.decade, "time": figures.time, "number": figures.number,
}  # fmt: skip
_MAKERS: dict[str, Callable[[str, Random, Hints], str]] = {
    "email": _email, "url": _url, "person": _person, "place": _place, "country": _country, "address": _address,
    "nationality": _nationality, "job": _job, "genre": _genre, "title": _title, "award": _award, "company": _company,
}  # fmt: skip
