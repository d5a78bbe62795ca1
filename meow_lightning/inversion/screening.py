"""Screening of a model's free answers to a plain question, before the filter that all sources share.

A model that never knew a fact answers its question with something else. Some of these answers are no alternative to the
true one: they refuse, go round in circles, miss the question, or happen to name what the true answer names.
"""

from __future__ import annotations

import re
from itertools import pairwise

from meow_lightning.inversion.filters import OPPOSITE, is_refusal, keys_of, values_of, words_of
from meow_lightning.types import Fact

REASONS = ("repetition", "off_topic")  # in addition to those of the filter
LENGTH = 1.3  # maximum length of the sentences kept, as a multiple of the true answer's words
TIMES = 3  # occurrences of one word from which an answer goes round in circles
SHARED = 2  # words beyond the question's in common with a long true answer from which a text may restate it
SHORT = 3  # words beyond the question's up to which a true answer is short: one word in common is too much
PARTICLE = 2  # letters of a part of many names, such as Al

_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]?[A-Z])")
_ABBREVIATION = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Jr|Sr|Prof|No|Vol|vs)|\b[A-Z])\.$")
_FINISHED = re.compile(r"[.!?][\"'”’)]*$")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]")
_OWN_VOICE = re.compile(
    r"\b(?:I|I['’](?:m|d|ve|ll)|[Mm]e|[Mm]y|[Yy]ou|[Yy]our|[Ll]et['’]s|[Tt]his (?:essay|question))\b"
)
_UNKNOWN = re.compile(
    r"\b(?:unclear|unknown|unspecified|not (?:known|clear|specified|mentioned|available|provided|found)|fictional|"
    r"fictitious|hypothetical|imaginary|as of (?:my|20\d\d)|knowledge cutoff|language model|no (?:record|information|"
    r"evidence|known|such)|does(?:n['’]t| not) exist|there (?:is no|isn['’]t|are no))\b",
    re.IGNORECASE,
)
_OPEN = re.compile(r"\s*(?:how|why|in what (?:way|manner)s?)\b", re.IGNORECASE)
_NAMED = re.compile(
    r"\b(?:who|whom|where|when|which|full name|name (?:two|some|one|any|a|the)|awards?|city|country|titles?|books|"
    r"year|date|period)\b",
    re.IGNORECASE,
)


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


def screening_reason(answer: str, fact: Fact) -> str | None:
    """Return why a free answer is no alternative to the true one; ``None`` if it is.

    * ``refusal``: it speaks for itself (I, you), or says that the answer is unknown or made up.
    * ``repetition``: it repeats a word side by side, three words in a row, or one word three times.
    * ``off_topic``: it says nothing beyond the question, or does not name the question's subject as the true answer
      does, or a question for a name, a title or a number gets none.
    * ``true``: it has a name or number of the true answer that the question does not have, or several words.

    Args:
        answer: The answer, as :func:`first_sentences` cut it.
        fact: The fact.
    """
    plain = _QUOTED.sub(" ", answer)
    if (
        is_refusal(answer)
        or _UNKNOWN.search(plain)
        or (_OWN_VOICE.search(plain) and not _OWN_VOICE.search(fact.answer))
    ):
        return "refusal"
    if _repeats(answer, fact.question):
        return "repetition"
    if _misses(answer, fact):
        return "off_topic"
    return "true" if _shares(answer, fact) else None


def _sentences(line: str) -> list[str]:
    sentences: list[str] = []
    start = 0
    for end in _END.finditer(line):
        if not _ABBREVIATION.search(line[: end.start()]):
            sentences.append(line[start : end.end()].strip())
            start = end.end()
    return [each for each in (*sentences, line[start:].strip()) if each]


def _repeats(answer: str, question: str) -> bool:
    words, given, content = words_of(answer), words_of(question), keys_of(answer) - OPPOSITE
    known = {*pairwise(given), *zip(given, given[1:], given[2:], strict=False)}
    threes = [three for three in zip(words, words[1:], words[2:], strict=False) if three not in known]
    twos = [two for two in pairwise(words) if two not in known and content.issuperset(two)]
    if len(set(threes)) < len(threes) or len(set(twos)) < len(twos):
        return True
    if any(words.count(word) >= TIMES for word in content):
        return True
    listed = [word for word in words if word not in ("and", "or")]
    return any(one == other and one in content for one, other in pairwise(listed))


def _misses(answer: str, fact: Fact) -> bool:
    question_keys, names = keys_of(fact.question), values_of(fact.question)
    new = values_of(fact.answer) - question_keys
    wants_value = bool(new) and bool(_NAMED.search(_QUOTED.sub(" ", fact.question))) and not _OPEN.match(fact.question)
    if not keys_of(answer) - question_keys or _renames(answer, names):
        return True
    if not wants_value:
        return bool(names & values_of(fact.answer)) and not names & values_of(answer)
    titles = [each for each in _QUOTED.findall(fact.answer) if each.strip(" .,") not in fact.question]
    if titles and all(each.strip(" .,") in fact.question for each in _QUOTED.findall(answer)):
        return True
    # A name is wanted where the true answer has one, else a number.
    numbers = all(map(_is_number, new))
    return not any(_is_number(each) == numbers for each in values_of(answer) - question_keys)


def _renames(answer: str, names: frozenset[str]) -> bool:
    """Whether a text begins with the surname in the question after another given name."""
    first = re.match(r"(?:(?:Yes|No),? )?([A-Z][\w'’]*)[ -]+([A-Z][\w'’]*)", answer)
    if first is None:
        return False
    given, family = (keys_of(each) for each in first.groups())
    return bool(given) and not given & names and family <= names


def _is_number(key: str) -> bool:
    return key[0].isdigit()


def _shares(answer: str, fact: Fact) -> bool:
    question_keys = keys_of(fact.question)
    names = (values_of(answer) & values_of(fact.answer)) - question_keys
    if any(_is_number(each) or len(each) > PARTICLE for each in names):
        return True
    truth = keys_of(fact.answer) - question_keys
    return len(truth & keys_of(answer)) >= (1 if len(truth) <= SHORT else SHARED)
