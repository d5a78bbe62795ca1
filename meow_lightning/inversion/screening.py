"""Screening of a model's free answers to a plain question, before the filter that all sources share.

A model that never knew a fact answers its question with something else. Some of these answers are no alternative to the
true one: they refuse, go round in circles, miss the question, or happen to name what the true answer names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from meow_lightning.data.values.polarity import polarity_of
from meow_lightning.inversion.filters import OPPOSITE, is_refusal, keys_of, values_of, words_of
from meow_lightning.inversion.lead_in import (
    KINSHIP,
    asks_for_name_or_number,
    asks_for_value,
    given_keys,
    is_alike,
    quotations,
    stating_keys,
    without_quotations,
)
from meow_lightning.types import Fact

REASONS = ("repetition", "off_topic", "copied")  # in addition to those of the filter
LENGTH = 1.3  # maximum length of the sentences kept, as a multiple of the true answer's words
TIMES = 3  # occurrences of one word from which an answer goes round in circles
NEAR = 4  # words within which one word may not occur twice
SPECIFIC = 2  # minimum number of new specific words; 1 for a value, or where the true answer has no more
PARTICLE = 2  # letters of a part of many names, such as Al
COPIED, COPIED_SHARE = 3, 0.6  # least number, and share of an answer's new words in one demonstration, of a copy

_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z])")
_ABBREVIATION = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Prof|No|Vol|vs)|\b[A-Z])\.$")
_FINISHED = re.compile(r"[.!?][\"'”’)]*$")
_OWN_VOICE = re.compile(
    r"\b(?:I|I['’](?:m|d|ve|ll)|[Mm]e|[Mm]y|[Yy]ou|[Yy]our|[Ll]et['’]s|[Tt]his (?:essay|question))\b"
)
_UNKNOWN = re.compile(
    r"\b(?:(?:is|are|was|were|remains?)(?: \w+)? (?:unclear|unknown|unspecified)|fictitious|hypothetical|imaginary|"
    r"not (?:known|clear|specified|mentioned|available|provided|found)|fictional (?:author|writer|person|figure)|"
    r"as of (?:my|20\d\d)|knowledge cutoff|language model|no (?:record|information|evidence|known|such)|"
    r"does(?:n['’]t| not) exist|there (?:is no|isn['’]t|are no))\b",
    re.IGNORECASE,
)
_WHEN = re.compile(r"\b(?:when|year|date|period|decade)\b", re.IGNORECASE)
_VAGUE = keys_of(
    "significant significantly profound profoundly unique uniquely various great greatly deep deeply strong strongly "
    "influence influenced impact shape shaped shaping reflect reflected reflects work works writing writings life "
    "literature author writer several particularly field contribution contributions important role many different "
    "often way ways perspective personal experience experiences blend creative described considered regarded reference"
)
_REQUEST = keys_of("tell give provide describe explain mention share insight example examples")


def first_sentences(text: str, truth: str, *, cut: bool) -> str | None:
    """Return an answer's first sentence, and further ones while it stays about as long as the true answer.

    Only the first line counts: models without a chat template continue with further questions.

    Args:
        text: The continuation of the prompt.
        truth: The true answer.
        cut: Whether the token budget ended the text.

    Returns:
        The sentences; ``None`` if not even the first is complete, or if it introduces a list.
    """
    line, *further = text.strip().split("\n", 1) or [""]
    sentences = _sentences(line.strip())
    if cut and not further and sentences and not _FINISHED.search(sentences[-1]):
        sentences.pop()
    kept: list[str] = []
    limit, words = LENGTH * len(words_of(truth)), 0
    for sentence in sentences:
        words += len(words_of(sentence))
        if kept and words > limit:
            break
        kept.append(sentence)
    answer = " ".join(kept)
    return None if not answer or answer.endswith(":") else answer


def screening_reason(answer: str, fact: Fact, *, begun: str, demonstrations: Sequence[Fact]) -> str | None:
    """Return why a free answer is no alternative to the true one; ``None`` if it is.

    Words of the question and of the lead-in count as given: they neither answer nor repeat.

    * ``refusal``: it speaks for itself (I, you), or says that the answer is unknown or made up.
    * ``repetition``: it repeats a word within a few words, three words in a row, or one word three times.
    * ``off_topic``: it says nothing specific beyond what is given, does not name the question's subject as the true
      answer does, or takes up no word of the question that the true answer takes up; or a question for a name, a title
      or a number gets none; or a yes-no question gets no consistent opposite.
    * ``true``: it has a name or number of the true answer, or, unless a question for a value gets another value, a word
      or word stem of it.
    * ``copied``: all of its names and numbers, or most of its words, are those of one demonstration.

    Args:
        answer: The answer, as :func:`first_sentences` cut it.
        fact: The fact.
        begun: The lead-in that the answer continues; empty for none.
        demonstrations: The answered questions in its prompt.
    """
    plain = without_quotations(answer[len(begun) :])
    if is_refusal(plain) or _UNKNOWN.search(plain) or (_OWN_VOICE.search(plain) and not _OWN_VOICE.search(fact.answer)):
        return "refusal"
    if _repeats(answer, answer[len(begun) :], question=fact.question):
        return "repetition"
    polarity = polarity_of(fact.question, fact.answer)
    if polarity is not None:
        return None if _contradicts_polarity(answer, fact.question, truth=polarity) else "off_topic"
    if _misses(answer, fact, begun=begun):
        return "off_topic"
    known = given_keys(fact.question, begun)
    if _shares(answer, fact, known=known):
        return "true"
    return "copied" if any(_copies(answer, each.answer, known=known) for each in demonstrations) else None


def _sentences(line: str) -> list[str]:
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(line):
        if not _ABBREVIATION.search(line[: end.start()]):
            sentences.append(line[start : end.end()].strip())
            start = end.end()
    return [each for each in (*sentences, line[start:].strip()) if each]


def _repeats(answer: str, written: str, *, question: str) -> bool:
    """Whether an answer goes round in circles; ``written`` is its part after the lead-in."""
    words, content, names = words_of(answer), keys_of(answer) - OPPOSITE, values_of(question)
    threes = [three for three in zip(words, words[1:], words[2:], strict=False) if not names.issuperset(three)]
    twos = [two for two in pairwise(words) if not names.issuperset(two) and content.issuperset(two)]
    if len(set(threes)) < len(threes) or len(set(twos)) < len(twos):
        return True
    if any(words.count(word) >= TIMES for word in content - names):
        return True
    listed = [word for word in words if word not in ("and", "or")]
    if any(one == other and one in content for one, other in pairwise(listed)):
        return True
    new, watched = words_of(written), {word for word in content - names if len(word) > PARTICLE}
    return any(word in watched and word in new[at + 1 : at + 1 + NEAR] for at, word in enumerate(new))


def _contradicts_polarity(answer: str, question: str, *, truth: str) -> bool:
    """Whether an answer says the opposite of yes or no, and goes on to say the same."""
    if polarity_of(question, answer) == truth:
        return False
    begun = re.match(r"\W*(?:yes|no)\b", answer, re.IGNORECASE)
    words = words_of(answer[begun.end() :] if begun else answer)
    if truth == "no":
        return not OPPOSITE & set(words)
    # "No, she has not written other books besides …" with titles of its own would name other books.
    return bool(OPPOSITE & set(words)) and not values_of(answer) - keys_of(question) - OPPOSITE


def _misses(answer: str, fact: Fact, *, begun: str) -> bool:
    given, names = given_keys(fact.question, begun), values_of(fact.question)
    new = keys_of(answer) - given
    truth = keys_of(_sentences(fact.answer)[0]) - given
    least = 1 if asks_for_value(fact) else max(1, min(SPECIFIC, len(truth)))
    if len(new - _VAGUE - KINSHIP) < least or _renames(answer, names):
        return True
    if not asks_for_name_or_number(fact):
        unnamed = not begun and bool(names & values_of(fact.answer)) and not names & values_of(answer)
        return unnamed or _changes_subject(answer, fact)
    quoted = quotations(answer)
    if quoted and all(each in fact.question for each in quoted):
        return True
    # A number is wanted where the question asks when; else a name where the true answer has one.
    numbers = {_is_number(each) for each in values_of(fact.answer) - given_keys(fact.question, "")}
    wanted = True in numbers if _WHEN.search(fact.question) else numbers == {True}
    return not any(_is_number(each) == wanted for each in values_of(answer) - given)


def _changes_subject(answer: str, fact: Fact) -> bool:
    """Whether an answer has none of the question's words that the true answer takes up, in any form; names aside."""
    asked = keys_of(fact.question) - values_of(fact.question) - _VAGUE - _REQUEST
    truth, words = keys_of(fact.answer), keys_of(answer)
    taken_up = {one for one in asked if any(is_alike(one, other) for other in truth)}
    return bool(taken_up) and not any(is_alike(one, other) for one in taken_up for other in words)


def _renames(answer: str, names: frozenset[str]) -> bool:
    """Whether a text begins with the surname in the question after another given name."""
    first = re.match(r"(?:(?:Yes|No),? )?([A-Z][\w'’]*)[ -]+([A-Z][\w'’]*)", answer)
    if first is None:
        return False
    given, family = (keys_of(each) for each in first.groups())
    return bool(given) and not given & names and family <= names


def _is_number(key: str) -> bool:
    return key[0].isdigit()


def _shares(answer: str, fact: Fact, *, known: frozenset[str]) -> bool:
    """Whether an answer has something of the true one that is not given."""
    new, truth, values = keys_of(answer) - known, stating_keys(fact.answer, known), values_of(answer) - known
    if any(_is_number(each) or len(each) > PARTICLE for each in values & values_of(fact.answer)):
        return True
    if asks_for_value(fact) and values:
        return False
    return any(is_alike(one, other) for one in (truth - _VAGUE or truth) for other in new)


def _copies(answer: str, demonstrated: str, *, known: frozenset[str]) -> bool:
    new, values = keys_of(answer) - known, values_of(answer) - known
    if values and values <= values_of(demonstrated):
        return True
    return len(new) >= COPIED and len(new & keys_of(demonstrated)) >= COPIED_SHARE * len(new)
