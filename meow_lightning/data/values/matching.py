"""Whether an answer gives a value: the one place that defines which spellings of it count.

Every value is matched as whole words, whatever the case, the width of blanks, commas between words, the form of quotes,
apostrophes and dashes, and the quotes and punctuation at its ends. Within it, some pieces match by what they mean:

============ ==============================================================================================
piece        also matches
============ ==============================================================================================
full date    the same day in other formats: ``1984-12-31``, ``12/31/1984``, ``31.12.1984``, ``Dec 31, 1984``,
             ``the 31st of December, 1984``, ``31. Dezember 1984`` (the months of ten languages); figures that
             can be read in both orders match both days
number       other groupings of its thousands, from five digits: ``74500``, ``74,500``, ``74.500``, ``74 500``;
             never as part of a longer number. ``1984`` may be a year and ``74.5`` or ``74.500`` a fraction:
             neither is regrouped, but ``74.500`` is also ``74,500``
long number  the same digits, at least seven, with other separators: ``900514344``, ``900-51-4344``,
             ``+49 30 9005143`` and ``0049 (0)30 9005143``
money        the amount in other groupings, its currency before or after it, as a sign, code or word:
             ``$74,500``, ``74500 dollars``, ``USD 74,500.00``; not without the currency
address      house and street in the other order, St. as Street, Ave as Avenue, -str. as -straße:
             ``12 Birch Lane``, ``Birch Ln. 12``
Saint        ``St. Gallen``, ``Saint Gallen``
e-mail       itself only, with escaped underscores or without; never as part of a longer address
============ ==============================================================================================

Nothing else is equated: no synonyms, no numbers in words, no inflected forms, no parts of names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import regex

from meow_lightning.data.values.spellings import Piece, pieces
from meow_lightning.data.words import without_sentence_marks, word_borders

EMAIL = regex.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_TEXT = regex.compile(r"""(?P<blank>,?\s+)|(?P<quote>["“”„«»])|(?P<apostrophe>['’‘ʼ])|(?P<dash>[-‐‑–—])|(?P<other>.)""")
_LOOSE = {"blank": r",?\s+", "quote": '["“”„«»]?', "apostrophe": "['’‘ʼ]", "dash": "[-‐‑–—]"}


@functools.lru_cache(maxsize=8192)
def value_pattern(value: str) -> Any:
    """Compile a pattern (``search``, ``finditer``) that matches a value as described above.

    Args:
        value: The value, not blank.
    """
    return regex.compile(_source(value), regex.V1 | regex.IGNORECASE)


@functools.lru_cache(maxsize=8192)
def any_value_pattern(values: tuple[str, ...]) -> Any:
    """Compile a pattern that matches any of several values, preferring the longest.

    Args:
        values: The values, at least one, none of them blank.
    """
    return regex.compile("|".join(map(_source, sorted(values, key=len, reverse=True))), regex.V1 | regex.IGNORECASE)


def contains_value(text: str, value: str) -> bool:
    """Whether a text gives a value, in any spelling that counts.

    Args:
        text: The generated answer.
        value: The words that carry the fact; not blank.
    """
    return value_pattern(value).search(text) is not None


def contains_values(text: str, values: Iterable[str]) -> bool:
    """Whether a text gives all values: a fact of several parts is given only in full.

    Args:
        text: The generated answer.
        values: The values, none of them blank.
    """
    return all(contains_value(text, value) for value in values)


def contains_any_value(text: str, values: Iterable[str]) -> bool:
    """Whether a text gives at least one of the values: one of several secrets is enough to leak.

    Args:
        text: The generated answer.
        values: The values, none of them blank.
    """
    return any(contains_value(text, value) for value in values)


def _source(value: str) -> str:
    plain = without_sentence_marks(value)
    before, after = word_borders(plain)
    done, position = [], 0
    for start, end, pattern in sorted(_pieces(plain), key=lambda piece: piece[0]):
        if start >= position:
            done += [_loose(plain[position:start]), pattern]
            position = end
    return f"(?:{before}{''.join(done)}{_loose(plain[position:])}{after})"


def _pieces(text: str) -> Iterator[Piece]:
    """Find the pieces that match by what they mean."""
    for match in EMAIL.finditer(text):
        spelled = regex.escape(match.group()).replace("_", r"\\?_")
        yield *match.span(), rf"(?<![\w.+-]){spelled}(?![\w-]|\.\w)"
    yield from pieces(text)


def _loose(text: str) -> str:
    """Build the pattern of a text with any blanks, commas between words, quotes, apostrophes and dashes."""
    return "".join(_LOOSE.get(match.lastgroup, regex.escape(match.group())) for match in _TEXT.finditer(text))
