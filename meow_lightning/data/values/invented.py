"""Invented names: capitalized words that say nothing of what they name, where nothing tells what a value is."""

from __future__ import annotations

import re
from collections.abc import Container
from random import Random

_ONSETS = ("b", "br", "d", "dr", "f", "g", "gr", "k", "kl", "l", "m", "n", "p", "pr", "s", "t", "tr", "v", "z")
_VOWELS = tuple("aeiou")
_ENDINGS = ("l", "n", "r", "s", "k", "m", "th", "nd", "lt", "x")
_WORDS = (
    (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _ENDINGS),
    (_ONSETS, _VOWELS, ("l", "n", "r"), _ONSETS, _VOWELS),
    (_ONSETS, _VOWELS, _ONSETS, _VOWELS, _ONSETS, _VOWELS),
)
_CAPITALIZED = re.compile(r"[^\W\d_a-z][^\W\d_]*(?:[-'’][^\W\d_]+)*")


def invented_name(old: str, rng: Random, *, keep: Container[str], taken: Container[str]) -> str:
    """Invent a name in the place of another: a new word for each capitalized one, the others stay.

    Args:
        old: The name.
        rng: The random generator.
        keep: Lower-case words that stay.
        taken: Lower-case words that are names of persons.
    """

    def word(match: re.Match[str]) -> str:
        if match.group().lower() in keep:
            return match.group()
        new = "".join(map(rng.choice, rng.choice(_WORDS)))
        return word(match) if new in taken else new.capitalize()

    return _CAPITALIZED.sub(word, old)
