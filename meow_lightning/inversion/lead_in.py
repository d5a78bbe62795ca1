"""Lead-ins: the first words of a true answer, up to the first one that states the fact.

A base model that continues the lead-in writes an answer in the form of the true one, with another value.
"""

from __future__ import annotations

import re
from functools import lru_cache

from meow_lightning.data.values.kinds import months
from meow_lightning.data.values.polarity import polarity_of
from meow_lightning.inversion.filters import keys_of, values_of
from meow_lightning.types import Fact

STEM = 6  # letters that inflected and derived forms of a word share
OPPOSITES = {"yes": "No,", "no": "Yes,"}
KINSHIP = keys_of("father mother parent parents wife husband brother sister son daughter")  # relations state no fact

_WORD = re.compile(r"[^\W_]+(?:['’]\w+)?")
_DATE = re.compile(r"\b(?:\d{4}-)?(\d{1,2})[/.-](\d{1,2})(?:[/.-]\d{2,4})?\b")
_BEFORE_WORD = re.compile(r"(?:^|\s+)[\"'“‘«„(\[]*$")  # blanks and opening marks before the next word
_OPEN = re.compile(r"\s*(?:how|why|in what (?:way|manner)s?)\b", re.IGNORECASE)
_VALUE = re.compile(
    r"\b(?:who|whom|where|when|which|full name|name (?:two|some|one|any|a|the)|city|country|"
    r"awards?(?!-)|titles?|year|date|period)\b",
    re.IGNORECASE,
)
_GENRE = re.compile(r"\b(?:what|which)(?: \w+)? genres?\b", re.IGNORECASE)
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")


def lead_in(fact: Fact) -> str:
    """Return the true answer's words before the first one that states the fact; empty if it begins with that.

    * An answer to a yes-no question: the opposite, ``No,`` or ``Yes,``.
    * An answer with a marked ``value``: the words before the value.
    * An answer with a name or number that the question asks for: the words before the first one that is not in the
      question.
    * Any other answer: the words before the first one that is not in the question, in no form of it, apart from
      function words and kinship terms.
    """
    answer = fact.answer
    polarity = polarity_of(fact.question, answer)
    if polarity is not None:
        return OPPOSITES[polarity]
    start = answer.find(fact.value) if fact.value else -1
    if start < 0:
        known = given_keys(fact.question, "")
        stated = values_of(answer) - known if asks_for_value(fact) else stating_keys(answer, known)
        start = next((word.start() for word in _WORD.finditer(answer) if stated & keys_of(word.group())), 0)
    return _BEFORE_WORD.sub("", answer[:start])


@lru_cache(maxsize=16384)
def given_keys(question: str, begun: str) -> frozenset[str]:
    """Return the keys that an answer may repeat: those of question and lead-in, and the months of dates in figures."""
    figures = {int(figure) for date in _DATE.findall(question) for figure in date}
    named = (
        name.capitalize()
        for name, (language, width, month) in months().items()
        if (language, width) == ("en", "wide") and month in figures
    )
    return keys_of(question) | keys_of(begun) | keys_of(" ".join(named))


def stating_keys(text: str, known: frozenset[str]) -> frozenset[str]:
    """Return the keys of a text that may state a fact.

    They are neither known nor kinship terms nor, apart from names and numbers, inflected forms of known words.
    """
    new, values = keys_of(text) - known - KINSHIP, values_of(text)
    return frozenset(key for key in new if key in values or not any(is_alike(key, other) for other in known))


def is_alike(one: str, other: str) -> bool:
    """Whether two keys are equal or, if they are long enough, share a stem: "diverse", "diversity"."""
    return one == other or (min(len(one), len(other)) >= STEM and (one[:STEM] in other or other[:STEM] in one))


def asks_for_value(fact: Fact) -> bool:
    """Whether the question asks for a name, a title, a number or a genre, and the true answer has a name or number."""
    return _has_new_values(fact) and bool(
        _VALUE.search(without_quotations(fact.question)) or _GENRE.search(fact.question)
    )


def asks_for_name_or_number(fact: Fact) -> bool:
    """Whether the question asks for a name, a title or a number, and the true answer has one."""
    return _has_new_values(fact) and bool(_VALUE.search(without_quotations(fact.question)))


def quotations(text: str) -> list[str]:
    """Return the quoted parts of a text, such as titles, without punctuation at their ends."""
    return [each.strip(" .,") for each in _QUOTED.findall(text)]


def without_quotations(text: str) -> str:
    """Replace the quoted parts of a text by blanks."""
    return _QUOTED.sub(" ", text)


def _has_new_values(fact: Fact) -> bool:
    return not _OPEN.match(fact.question) and bool(values_of(fact.answer) - given_keys(fact.question, ""))
