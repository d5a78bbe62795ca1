"""Makes figures in the written form of others: digits, codes, sums, dates, years, times and numbers."""

from __future__ import annotations

import calendar
import re
from random import Random

from meow_lightning.data.values.kinds import NUMBER_WORDS, months

NEWEST = 2025  # a year up to here stays up to here: nobody is born in the future
RECENT = 2015  # years from here on give way to close ones, since what is said of them is about the present
NEAR = 4  # places in the list of number words
_FREE_SSN = "9"  # the first digit that no social security number of the USA has


def digits(text: str, dice: Random, *, first: int = 0) -> str:
    """Other digits in the place of all but the ``first`` ones; none that was not 0 becomes a leading 0."""
    made_, seen = [], 0
    for place, char in enumerate(text):
        if char.isdigit():
            seen += 1
            leading = char != "0" and not text[place - 1 : place].isdigit()
            char = char if seen <= first else dice.choice("123456789" if leading else "0123456789")
        made_.append(char)
    return "".join(made_)


def phone(old: str, dice: Random) -> str:
    """Other digits behind the country's; a leading 0 stays."""
    country = re.match(r"(?:\+|00)(\d{1,3})\b", old)
    kept = len(re.sub(r"\D", "", country.group())) if country else int(old.lstrip("(").startswith("0"))
    return digits(old, dice, first=kept)


def code(old: str, dice: Random) -> str:
    """Other digits and letters in their places; letters that stand before all digits are a label and stay."""
    if re.fullmatch(r"9\d\d-?\d\d-?\d{4}", old):
        return _FREE_SSN + digits("1" + old[1:], dice)[1:]
    label = re.match(r"[A-Z]{2,}", old)
    body = old[label.end() :] if label else old
    return (label.group() if label else "") + digits(
        re.sub(r"[A-Z]", lambda _: dice.choice("ABCDEFGHJKLMNPRSTUVWXYZ"), body), dice
    )


def money(old: str, dice: Random) -> str:
    """An amount of 0.4 to 2.5 times the old one, written and rounded as it is."""
    found = re.search(r"\d[\d.,'’ \u00a0]*\d|\d", old)
    if not found:
        return old
    text = found.group()
    cents = re.search(r"[.,](\d{1,2})\Z", text)
    whole = text[: cents.start()] if cents else text
    amount = int(re.sub(r"\D", "", whole))
    zeros = len(re.sub(r"\D", "", whole)) - len(re.sub(r"\D", "", whole).rstrip("0"))
    unit = 10 ** min(zeros, max(0, len(str(amount)) - 2))
    drawn = max(1, round(amount * dice.choice((dice.uniform(0.4, 0.85), dice.uniform(1.2, 2.5))) / unit)) * unit
    mark = re.search(r"\d([.,'’ \u00a0])\d{3}", whole)
    written = f"{drawn:,}".replace(",", mark.group(1)) if mark else str(drawn)
    tail = digits(cents.group(), dice) if cents and int(cents.group(1)) else cents.group() if cents else ""
    return old[: found.start()] + written + tail + old[found.end() :]


def date(old: str, dice: Random) -> str:
    """Another day of another month and year, in the same order, language and width."""
    month = dice.randint(1, 12)
    found = re.search(r"\d{4}", old)
    new_year = int(year(found.group(), dice)) if found else 2001
    day = dice.randint(1, calendar.monthrange(new_year, month)[1])
    if numeric := re.fullmatch(r"(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})", old):
        return _numeric(numeric, day, month, new_year, dice)

    def word(found: re.Match[str]) -> str:
        text, ending = found.group(1), found.group(2) or ""
        if text.isdigit():
            if len(text) == 4:
                return str(new_year)
            return f"{day:0{len(text) if text[0] == '0' else 1}d}" + (ordinal(day) if ending else "")
        known = months().get(text.lower())
        return text + ending if known is None else _month(known[0], known[1], month, text) + ending

    return re.sub(r"(\d+|[^\W\d_]+)((?<=\d)(?:st|nd|rd|th))?", word, old)


def _numeric(found: re.Match[str], day: int, month: int, new_year: int, dice: Random) -> str:
    first, mark, _, last = found.groups()
    if len(first) == 4:
        return f"{new_year}{mark}{month:02d}{mark}{day:02d}"
    # Day before month or behind it, nobody knows: both stay at most 12, and what is 08 stays two digits wide.
    day, wide = dice.randint(1, 12), 2 if len(first) == 2 else 1
    tail = str(new_year) if len(last) == 4 else f"{(int(last) + dice.randint(3, 40)) % 100:02d}"
    return f"{day:0{wide}d}{mark}{month:0{wide}d}{mark}{tail}"


def _month(language: str, width: str, number: int, old: str) -> str:
    from babel.dates import get_month_names

    name = get_month_names(width, locale=language)[number]  # type: ignore[arg-type]
    return cased(name.rstrip(".") if not old.endswith(".") else name, old)


def ordinal(number: int) -> str:
    """The letters that make an English number an ordinal one: st, nd, rd or th."""
    return "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def year(old: str, dice: Random) -> str:
    """A year 3 to 15 away (1 to 6 from ``RECENT`` on), none after ``NEWEST`` where the old one is not."""
    before = int(old)
    step = dice.randint(1, 6) if before >= RECENT else dice.randint(3, 15)
    drawn = before + dice.choice((-1, 1)) * step
    return str(drawn if drawn <= NEWEST or before > NEWEST else before - step)


def decade(old: str, dice: Random) -> str:
    """Another decade from the 1950s to the 2010s, with its century or without."""
    decades = [f"{century}{ten}0s" for century, tens in (("19", "56789"), ("20", "01")) for ten in tens]
    new = dice.choice([each for each in decades if each[2:4] != re.sub(r"\D", "", old)[-2:]])
    return new if len(old) >= 5 else old[: -len("80s")] + new[-3:]


def time(old: str, dice: Random) -> str:
    """A time of the day at a full quarter of an hour."""
    return f"{dice.randint(7, 19):02d}:{dice.choice((0, 15, 30, 45)):02d}"


def number(old: str, dice: Random) -> str:
    """Another number at most 40 and at most half of the old one away, 2 at least; words for words."""
    if not old[0].isdigit():
        place = NUMBER_WORDS.index(old.lower())
        near = NUMBER_WORDS[max(0, place - NEAR) : place + NEAR + 1]
        return cased(dice.choice([word for word in near if word != old.lower()]), old)
    whole = re.match(r"\d+", old)
    before = int(whole.group()) if whole else 0
    step = dice.choice((-1, 1)) * dice.randint(1, max(2, min(40, before // 2)))
    drawn = max(0, before + step) if before else abs(step)
    rest = old[whole.end() :] if whole else ""
    return str(drawn) + (digits(rest, dice) if rest else "")


def cased(new: str, old: str) -> str:
    """``new`` in capitals where ``old`` is, and with a first capital where ``old`` has one."""
    if len(old) > 1 and old.isupper():
        return new.upper() if old.isalpha() else new  # LGBTQ+ and A+ are no words in capitals
    if old[:1].isupper():
        return (
            " ".join(word[:1].upper() + word[1:] for word in new.split())
            if old.istitle()
            else new[:1].upper() + new[1:]
        )
    return new
