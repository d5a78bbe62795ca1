"""Spellings of one value: patterns of dates, numbers, amounts of money and street addresses in their other forms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import regex

from meow_lightning.data.values.kinds import months
from meow_lightning.data.values.word_lists import STREET_ENDS

Piece = tuple[int, int, str]
"""Start and end of a piece of a value, and the pattern of all its spellings."""

LEAST_DIGITS = 7  # of a long number: shorter ones with blanks between them may be several numbers
YEAR_DIGITS = 4  # "1984" may be a year, so without a currency it is not spelled "1,984"

_NAMED = r"(?P<name>[^\W\d_]{3,})\.?"
_ORDINAL = r"(?:st|nd|rd|th|er|[.ºª])?"
_OF = r"(?:(?:of|del?|di|do)\s+)?"
_DATES = tuple(
    regex.compile(rf"(?<![\w/.-]){form}(?![\w/-])", regex.IGNORECASE)
    for form in (
        r"(?P<year>\d{4})([-/.])(?P<month>\d{1,2})\2(?P<day>\d{1,2})",
        r"(?P<one>\d{1,2})([-/.])(?P<other>\d{1,2})\2(?P<year>\d{4})",
        rf"{_NAMED}\s+(?P<day>\d{{1,2}}){_ORDINAL},?\s+(?P<year>\d{{4}})",
        rf"(?P<day>\d{{1,2}}){_ORDINAL}\s+{_OF}{_NAMED},?\s+{_OF}(?P<year>\d{{4}})",
    )
)
_LONG_NUMBER = regex.compile(r"(?<![\w.])\+?\(?\d[\d\s().\-/]*\d(?!\w)")
_SEPARATORS = r"[\s().\-–/]{0,3}"
_AMOUNT = r"(?:\d{1,3}(?P<mark>[.,'’\s])\d{3}(?:(?P=mark)\d{3})*|\d+)"
_NUMBER = regex.compile(rf"(?<![\w.,+/-])(?P<whole>{_AMOUNT})(?P<cents>[.,]\d{{1,2}})?(?![\w%/-]|[.,]\d)")
_MARKS = (",", r"\.", "['’]", r"\s", "")  # between groups of three digits
_CURRENCIES = (
    r"(?:US\s?)?\$|USD|(?:(?:US|U\.S\.|American)\s)?dollars?", r"€|EUR|euros?", r"£|GBP|pounds?(?:\ssterling)?",
    r"¥|JPY|yen", r"CHF|S?Fr\.|(?:Swiss\s)?francs?|(?:Schweizer\s)?Franken", r"₹|INR|rupees?",
    r"zł|PLN|zlotys?|złotych", r"SEK|kronor", r"NOK|kroner", r"DKK",
)  # fmt: skip
_MONEY = tuple(
    (currency, regex.compile(pattern, regex.IGNORECASE))
    for currency in _CURRENCIES
    for pattern in (
        rf"(?<!\w)(?:{currency})\s?(?P<whole>{_AMOUNT})(?P<cents>[.,]\d{{1,2}})?(?![\w%]|[.,]\d)",
        rf"(?<![\w.,])(?P<whole>{_AMOUNT})(?P<cents>[.,]\d{{1,2}})?\s?(?:{currency})(?!\w)",
    )
)
_ABBREVIATED = {
    "street": "st", "road": "rd", "avenue": "ave", "lane": "ln", "drive": "dr", "boulevard": "blvd", "court": "ct",
    "place": "pl", "parkway": "pkwy",
}  # fmt: skip
_WHOLE_WORD = {short: word for word, short in _ABBREVIATED.items()}
_HOUSE = r"(?P<house>\d{1,5}[A-Za-z]?)"
_NAME = r"(?:[^\W\d_a-z][\w'’.-]*\s+){1,4}"
_SUFFIX = r"(?:str(?:aße|asse|\.)|gasse|weg|platz|allee|laan|straat|gatan|vägen|vej)"
_ADDRESSES = tuple(
    regex.compile(rf"(?<![\w.,/-]){form}(?![\w/-])")
    for street in (
        rf"(?P<street>{_NAME}(?:{'|'.join(STREET_ENDS.split())}))\b\.?",
        rf"(?P<street>[^\W\d_a-z]\w*{_SUFFIX})",
    )
    for form in (rf"{_HOUSE},?\s+{street}", rf"{street},?\s+{_HOUSE}")
)
_SAINT = regex.compile(r"(?<!\w)(?:St\.?|Saint)\s(?=[^\W\d_a-z][^\W\d_A-Z])")


def pieces(text: str) -> Iterator[Piece]:
    """Find the pieces of a value that have several spellings; of those that overlap, the first one counts.

    Args:
        text: The value.
    """
    yield from ((*match.span(), r"(?:St\.?|Saint)\s+") for match in _SAINT.finditer(text))
    if any(map(str.isdigit, text)):
        yield from _dates(text)
        for form in _ADDRESSES:
            yield from ((*match.span(), _address(match["house"], match["street"])) for match in form.finditer(text))
        for currency, form in _MONEY:
            yield from (
                (*match.span(), _money(match["whole"], match["cents"], currency)) for match in form.finditer(text)
            )
        yield from _numbers(text)


def _dates(text: str) -> Iterator[Piece]:
    for form in _DATES:
        for match in form.finditer(text):
            if days := _days(match.groupdict()):
                yield *match.span(), _date(match["year"], days)


def _numbers(text: str) -> Iterator[Piece]:
    for match in _LONG_NUMBER.finditer(text):
        digits = [character for character in match.group() if character.isdigit()]
        if len(digits) >= LEAST_DIGITS:
            yield *match.span(), _long_number(match.group(), digits)
    for match in _NUMBER.finditer(text):
        if pattern := _number(match["whole"], match["cents"]):
            yield *match.span(), pattern


def _days(parts: dict[str, str | None]) -> list[tuple[int, int]]:
    """List the (day, month) that a date may mean: two where its figures do not say which is the month."""
    if "one" in parts:
        figures = int(parts["one"] or 0), int(parts["other"] or 0)
        readings = [figures, figures[::-1]]
    elif "name" in parts:
        known = months().get((parts["name"] or "").casefold())
        readings = [(int(parts["day"] or 0), known[2])] if known else []
    else:
        readings = [(int(parts["day"] or 0), int(parts["month"] or 0))]
    return list(dict.fromkeys((day, month) for day, month in readings if 1 <= day <= 31 and 1 <= month <= 12))


@lru_cache(maxsize=12)
def _month_names(number: int) -> str:
    """Build the pattern of a month's names in every language that Babel is asked for."""
    names = [name for name, (_, _, month) in months().items() if month == number]
    return rf"(?:{'|'.join(sorted(map(regex.escape, names), key=len, reverse=True))})\.?"


def _date(year: str, days: Iterable[tuple[int, int]]) -> str:
    """Build the pattern of a date in every format; a day is followed by st, nd, rd, th, er or a dot, or not."""
    forms = []
    for day, month in days:
        named = _month_names(month)
        forms += [
            rf"{named}\s+0?{day}{_ORDINAL},?\s+{year}",
            rf"0?{day}{_ORDINAL}\s+(?:day\s+)?{_OF}{named},?\s+{_OF}{year}",
            rf"{year}[-/.]0?{month}[-/.]0?{day}",
            rf"0?{month}[-/.]0?{day}[-/.]{year}",
            rf"0?{day}[-/.]0?{month}[-/.]{year}",
        ]
    return rf"(?<!\d)(?:{'|'.join(dict.fromkeys(forms))})(?!\d)"


def _long_number(text: str, digits: list[str]) -> str:
    """Build the pattern of the same digits with other separators; of a plain number, also in groups of three."""
    start = ""
    if text.startswith(("+", "00")):
        digits = digits[2:] if text.startswith("00") else digits
        start = r"(?:\+\s?|00\s?)?"
    body = _SEPARATORS.join(digits)
    if start:  # +49 (0)30 …: the trunk prefix follows a country code of one to three digits
        joints = [rf"(?:{_SEPARATORS}\(0\))?{_SEPARATORS}"] * 3 + [_SEPARATORS] * (len(digits) - 4)
        body = digits[0] + "".join(joint + digit for joint, digit in zip(joints, digits[1:], strict=True))
    plain = not start and digits[0] != "0" and len(digits) == len(text)
    forms = [f"{start}{body}", *([_bounded(digits, _grouped("".join(digits), plain=True))] if plain else [])]
    return rf"(?<!\d)(?:{'|'.join(forms)})(?![\dA-Za-z]|[.,'’]\d)"


def _number(whole: str, cents: str | None) -> str | None:
    """Build the pattern of a number in other groupings; ``None`` for a decimal fraction, which matches as it stands.

    One group after a dot may be a decimal fraction (74.500), so it is only spelled with a comma besides.
    """
    digits = regex.sub(r"\D", "", whole)
    if digits == whole:
        if cents is not None:
            return None
        body = _grouped(digits, plain=True) if len(digits) > YEAR_DIGITS and digits[0] != "0" else digits
    elif cents is not None or len(digits) < len(whole) - 1 or not regex.search(r"[.\s]", whole):
        body = _grouped(digits, plain=len(digits) > YEAR_DIGITS)
    elif "." in whole:
        body = regex.sub(r"\.", "[.,]", whole)
    else:
        return None
    return _bounded(digits, body + _fraction(cents))


def _money(whole: str, cents: str | None, currency: str) -> str:
    """Build the pattern of an amount with its currency before or after it, in every grouping."""
    digits = regex.sub(r"\D", "", whole)
    number = _bounded(digits, _grouped(digits, plain=True) + _fraction(cents))
    return rf"(?:(?:{currency})\s?{number}|{number}(?:[.,][-–—]{{1,2}})?\s?(?:{currency}))"


def _grouped(digits: str, *, plain: bool) -> str:
    """Build the pattern of digits in groups of three with one separator throughout; ``plain``: or with none."""
    first = len(digits) % 3 or 3
    groups = [digits[:first], *(digits[place : place + 3] for place in range(first, len(digits), 3))]
    if len(groups) == 1:
        return digits
    if len(groups) == 2:
        return rf"{groups[0]}[.,'’\s]{'?' if plain else ''}{groups[1]}"
    return f"(?:{'|'.join(mark.join(groups) for mark in (_MARKS if plain else _MARKS[:-1]))})"


def _fraction(cents: str | None) -> str:
    """Build the pattern of the hundredths: those given, or none and zeros."""
    figures = (cents or "")[1:].ljust(2, "0")
    if figures == "00":
        return r"(?:[.,]00?)?"
    return rf"[.,]{figures[0]}0?" if figures[1] == "0" else rf"[.,]{figures}"


def _bounded(digits: Sequence[str], body: str) -> str:
    """Keep a number from matching inside a longer one; the year of 31.12.1984 is no part of a longer number."""
    before = "" if len(digits) == YEAR_DIGITS else r"(?<!\b\d{1,3}[.,'’])"
    return rf"(?<!\d){before}{body}(?!\d|\.\d|[,'’]\d{{3}}(?!\d))"


def _address(house: str, street: str) -> str:
    """Build the pattern of a house and its street in either order."""
    words = street.split()
    last = words[-1].casefold()
    ending = regex.search(r"(?i)str(?:aße|asse|\.)$", words[-1])
    if ending and len(words) == 1:
        words = [regex.escape(words[-1][: ending.start()]) + r"str(?:a(?:ß|ss)e|\.)"]
    else:
        word = _WHOLE_WORD.get(last, last)
        short = _ABBREVIATED.get(word)
        name = rf"(?:{regex.escape(word)}|{short}\b\.?)" if short else regex.escape(words[-1])
        words = [*map(regex.escape, words[:-1]), name]
    named = r"\s+".join(words)
    return rf"(?:(?<!\w){house},?\s+{named}(?!\w)|(?<!\w){named},?\s+{house}(?!\w))"
