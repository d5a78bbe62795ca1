"""Generators of figures in a given format: digits, codes, amounts, dates, years, times and numbers."""

from __future__ import annotations

import calendar
import re
from random import Random

from meow_lightning.data.values.kinds import NUMBER_WORDS, months

NEWEST = 2025  # a year not after this one is replaced by another such year: births in the future would be implausible
RECENT = 2015  # years from this one on are replaced by nearby ones, since they concern the present
NEAR = 4  # maximum distance between two number words in their list
_FREE_SSN = "9"  # first digit that no US social security number has


def digits(text: str, rng: Random, *, first: int = 0) -> str:
    """Replace all but the ``first`` digits; a nonzero leading digit stays nonzero."""
    chars, count = [], 0
    for place, char in enumerate(text):
        if char.isdigit():
            count += 1
            leading = char != "0" and not text[place - 1 : place].isdigit()
            char = char if count <= first else rng.choice("123456789" if leading else "0123456789")
        chars.append(char)
    return "".join(chars)


def phone(old: str, rng: Random) -> str:
    """Replace the digits after the country code; a leading 0 stays."""
    country = re.match(r"(?:\+|00)(\d{1,3})\b", old)
    kept = len(re.sub(r"\D", "", country.group())) if country else int(old.lstrip("(").startswith("0"))
    return digits(old, rng, first=kept)


def code(old: str, rng: Random) -> str:
    """Replace digits and letters; letters before the first digit are a label and stay."""
    if re.fullmatch(r"9\d\d-?\d\d-?\d{4}", old):
        return _FREE_SSN + digits("1" + old[1:], rng)[1:]
    label = re.match(r"[A-Z]{2,}", old)
    body = old[label.end() :] if label else old
    return (label.group() if label else "") + digits(
        re.sub(r"[A-Z]", lambda _: rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ"), body), rng
    )


def money(old: str, rng: Random) -> str:
    """Draw an amount of 0.4 to 2.5 times the old one, in the same format and rounding."""
    match = re.search(r"\d[\d.,'’ \u00a0]*\d|\d", old)
    if not match:
        return old
    text = match.group()
    cents = re.search(r"[.,](\d{1,2})\Z", text)
    units = text[: cents.start()] if cents else text
    amount = int(re.sub(r"\D", "", units))
    zeros = len(re.sub(r"\D", "", units)) - len(re.sub(r"\D", "", units).rstrip("0"))
    unit = 10 ** min(zeros, max(0, len(str(amount)) - 2))
    drawn = max(1, round(amount * rng.choice((rng.uniform(0.4, 0.85), rng.uniform(1.2, 2.5))) / unit)) * unit
    mark = re.search(r"\d([.,'’ \u00a0])\d{3}", units)
    written = f"{drawn:,}".replace(",", mark.group(1)) if mark else str(drawn)
    tail = digits(cents.group(), rng) if cents and int(cents.group(1)) else cents.group() if cents else ""
    return old[: match.start()] + written + tail + old[match.end() :]


def date(old: str, rng: Random) -> str:
    """Draw a date of another day, month and year, in the same order, language and width."""
    month = rng.randint(1, 12)
    match = re.search(r"\d{4}", old)
    new_year = int(year(match.group(), rng)) if match else 2001
    day = rng.randint(1, calendar.monthrange(new_year, month)[1])
    if numeric := re.fullmatch(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})", old):
        return _numeric(numeric, day, month, new_year, rng)

    def word(match: re.Match[str]) -> str:
        text, ending = match.group(1), match.group(2) or ""
        if text.isdigit():
            if len(text) == 4:
                return str(new_year)
            return f"{day:0{len(text) if text[0] == '0' else 1}d}" + (ordinal(day) if ending else "")
        known = months().get(text.lower())
        return text + ending if known is None else _month(known[0], known[1], month, text) + ending

    return re.sub(r"(\d+|[^\W\d_]+)((?<=\d)(?:st|nd|rd|th))?", word, old)


def _numeric(match: re.Match[str], day: int, month: int, new_year: int, rng: Random) -> str:
    first, mark, _, last = match.groups()
    if len(first) == 4:
        return f"{new_year}{mark}{month:02d}{mark}{day:02d}"
    # The order of day and month is unknown, so both stay at most 12; two-digit fields keep two digits.
    day, wide = rng.randint(1, 12), 2 if len(first) == 2 else 1
    tail = str(new_year) if len(last) == 4 else f"{(int(last) + rng.randint(3, 40)) % 100:02d}"
    return f"{day:0{wide}d}{mark}{month:0{wide}d}{mark}{tail}"


def _month(language: str, width: str, number: int, old: str) -> str:
    from babel.dates import get_month_names

    name = get_month_names(width, locale=language)[number]  # type: ignore[arg-type]
    return cased(name.rstrip(".") if not old.endswith(".") else name, old)


def ordinal(number: int) -> str:
    """Return the suffix of an English ordinal: st, nd, rd or th."""
    return "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def year(old: str, rng: Random) -> str:
    """Draw a year 3 to 15 years away (1 to 6 from ``RECENT`` on), not after ``NEWEST`` unless the old one is."""
    before = int(old)
    step = rng.randint(1, 6) if before >= RECENT else rng.randint(3, 15)
    drawn = before + rng.choice((-1, 1)) * step
    return str(drawn if drawn <= NEWEST or before > NEWEST else before - step)


def decade(old: str, rng: Random) -> str:
    """Draw another decade from the 1950s to the 2010s, with or without its century."""
    decades = [f"{century}{ten}0s" for century, tens in (("19", "56789"), ("20", "01")) for ten in tens]
    new = rng.choice([each for each in decades if each[2:4] != re.sub(r"\D", "", old)[-2:]])
    return new if len(old) >= 5 else old[: -len("80s")] + new[-3:]


def time(old: str, rng: Random) -> str:
    """Draw a time of day at a full quarter of an hour."""
    return f"{rng.randint(7, 19):02d}:{rng.choice((0, 15, 30, 45)):02d}"


def number(old: str, rng: Random) -> str:
    """Draw a number that differs by at most half of the old one (limited to 2 to 40); number words stay words."""
    if not old[0].isdigit():
        place = NUMBER_WORDS.index(old.lower())
        near = NUMBER_WORDS[max(0, place - NEAR) : place + NEAR + 1]
        return cased(rng.choice([word for word in near if word != old.lower()]), old)
    integer = re.match(r"\d+", old)
    before = int(integer.group()) if integer else 0
    step = rng.choice((-1, 1)) * rng.randint(1, max(2, min(40, before // 2)))
    drawn = max(0, before + step) if before else abs(step)
    rest = old[integer.end() :] if integer else ""
    return str(drawn) + (digits(rest, rng) if rest else "")


def cased(new: str, old: str) -> str:
    """Adapt the case of ``new`` to ``old``: all capitals or an initial capital."""
    if len(old) > 1 and old.isupper():
        return new.upper() if old.isalpha() else new  # LGBTQ+ and A+ do not count as capitalized words
    if old[:1].isupper():
        return (
            " ".join(word[:1].upper() + word[1:] for word in new.split())
            if old.istitle()
            else new[:1].upper() + new[1:]
        )
    return new
