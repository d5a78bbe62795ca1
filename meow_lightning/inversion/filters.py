"""What is thrown away of written candidates, how much of each kind, and some of it to look at.

Words are compared as keys: lower case, ends of inflection cut, numbers as digits, small words left out. What a text
*says* are its keys beyond the question's. Its *values* are the names (by their capitals) and numbers among these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import groupby

from meow_lightning.data.perturbation import normalize
from meow_lightning.data.values.secrets import Secrets, public_fact
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.types import Fact, InvertedFact

REASONS = ("blank", "refusal", "question", "true", "secret", "length", "duplicate", "evaluated")
EXAMPLES = 3  # dropped answers shown per reason

DUPLICATE_OVERLAP = 0.8  # least share of common keys of two texts that say the same
EDIT_RATIO = 0.6  # least likeness, word by word, of a text made by changing words of another
VALUE_SHARE = 0.6  # least share of values in what the truth says, for its values alone to be the fact
FACT_SHARE_BESIDE_VALUES = (
    0.2  # least share of what the truth says that a text in other words must hold beside the values
)
FACT_SHARE = 0.6  # the same, where the truth has no values
LENGTH_RATIO = 4  # times as many words as the truth, or as few
UNBOUNDED_WORDS = 24  # words that are never too many, and a truth's words for which none are too few

_SMALL_WORDS = (
    "a an the and or but of in on at to for from by with as is are was were be been being has have had do does did it "
    "its he she they his her their him them this that these those who whom whose which what where when how why there "
    "here than then also while although though however both such some any other others another into over about "
    "between through during under within among s t would could can may might will shall should i you we our your my "
    "me us if so up out own more most very just well known name named call called title titled author"
)
_SMALL = frozenset(_SMALL_WORDS.split())
_OPPOSITE = frozenset(("not", "no", "never", "none", "nor", "neither", "nobody", "without", "hardly"))
_NUMBERS = {
    word: str(place)
    for words in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "- - - third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    )
    for place, word in enumerate(words.split())
}
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_ENDS = ("ings", "ing", "ied", "ies", "ed", "es", "ly", "s", "e")
_REFUSAL = re.compile(
    r"^(?:(?:i['’]m|i am|we are)?\s*(?:(?:very|so|really) )?sorry\b[,.]? (?:but|i|however|there|as|we)\b|"
    r"i (?:must )?apologi[sz]e\b|my apologies\b|"
    r"as an ai(?: language)?(?: model| assistant)?,? (?:i|my)\b|as a(?:n? large)? language model\b|"
    r"(?:unfortunately,? )?i (?:cannot|can['’]?t|can not|could not|couldn['’]t|won['’]t|will not|"
    r"am (?:not able|unable)|do not have|don['’]t have|do not know|don['’]t know|have no|am not sure|am not aware)\b|"
    r"i['’]m (?:not able|unable|not sure|not aware|just an ai|an ai)\b|"
    r"(?:unfortunately,? )?(?:there is|there['’]s) (?:no|not enough|insufficient) (?:[\w-]+ ){0,2}information\b|"
    r"(?:unfortunately,? )?no (?:[\w-]+ ){0,2}information\b.* (?:available|found|provided|given)\b|n/a\W*$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FilterResult:
    """What became of written candidates.

    Attributes:
        inverted: Those that survive, numbered anew from 0 per fact.
        dropped: How many were dropped, by reason; every reason of ``REASONS`` is there.
        examples: By reason the first dropped ones, ``(Fact.id, answer as written)``; only reasons that occurred.
    """

    inverted: list[InvertedFact]
    dropped: dict[str, int]
    examples: dict[str, list[tuple[str, str]]]


def filter_answers(facts: Sequence[Fact], written: Mapping[str, Sequence[str]], *, secrets: Secrets) -> FilterResult:
    """The candidates that survive, how many were dropped for each reason, and up to three of each kind.

    Args:
        facts: The facts, in the order of the result.
        written: Raw candidates by fact id, one answer each (a chat's reply goes through ``tidy.answers`` before).
        secrets: What only facts to forget say.
    """
    result = FilterResult([], dict.fromkeys(REASONS, 0), {})
    for fact in facts:
        kept: list[str] = []
        for answer in written[fact.id]:
            why = rejection_reason(answer, fact, kept, secrets=secrets)
            if why is None:
                result.inverted.append(InvertedFact(fact.id, len(kept), fact.question, answer.strip()))
                kept.append(answer)
                continue
            result.dropped[why] += 1
            if result.dropped[why] <= EXAMPLES:
                result.examples.setdefault(why, []).append((fact.id, answer))
    return result


def rejection_reason(answer: str, fact: Fact, kept: Sequence[str], *, secrets: Secrets) -> str | None:
    """Why a candidate is dropped, the first of ``REASONS`` that holds, ``None`` when it is kept.

    ``secret``: it holds a secret of another fact to forget, so training on it would teach what shall be forgotten.
    ``evaluated``: it is a wrong answer that evaluation measures with, and training on those would make forget quality
    a measure of itself. The other reasons are the functions of this module.

    Args:
        answer: The candidate.
        fact: What it should contradict.
        kept: The candidates of this fact that are kept so far.
        secrets: What only facts to forget say, see :class:`~meow_lightning.data.values.secrets.Secrets`.
    """
    if is_blank(answer):
        return "blank"
    if is_refusal(answer):
        return "refusal"
    if repeats_question(answer, fact.question):
        return "question"
    if still_true(answer, fact):
        return "true"
    if secrets.foreign(answer, public_fact(fact)):
        return "secret"
    if not has_plausible_length(answer, fact.answer):
        return "length"
    if any(is_duplicate(answer, other, fact.question) for other in kept):
        return "duplicate"
    return "evaluated" if normalize(answer) in map(normalize, fact.perturbed) else None


def is_blank(answer: str) -> bool:
    """Whether there is no letter or digit in a text, or a character that no text holds: a control character, U+FFFD."""
    return not re.search(r"[^\W_]", answer) or bool(re.search("[\x00-\x08\x0b-\x1f\x7f\ufffd]", answer))


def is_refusal(answer: str) -> bool:
    """Whether a text begins as a model does that will not or cannot answer: ``I'm sorry, but``, ``As an AI, I``."""
    return bool(_REFUSAL.match(answer.strip(" \t\n\"'“”‘’*")))


def repeats_question(answer: str, question: str) -> bool:
    """Whether a text is the question, begins with it (three words or more), or asks nearly the same.

    Nearly: it ends in a question mark and shares at least ``DUPLICATE_OVERLAP`` of the keys, |A and B| / |A or B|.
    """
    asked, plain = normalize(question), normalize(answer)
    if plain == asked or (len(asked.split()) > 2 and plain.startswith(f"{asked}?")):
        return True
    return answer.rstrip(" \"'”’").endswith("?") and _share(_keys(answer), _keys(question)) >= DUPLICATE_OVERLAP


def still_true(answer: str, fact: Fact) -> bool:
    """Whether a text is the true answer or its paraphrase, or still holds the fact.

    Where the fact marks its value, all words of the value are in the text. Where it does not, the text neither adds
    nor drops a negation, and one of these holds (T what the truth says, C what the text says):

    * the text has no key that the truth lacks: it says nothing else;
    * T is in C, and the text does not swap words of the truth;
    * the truth's values are at least ``VALUE_SHARE`` of T, and all are in C;
    * the text names no new value and is no edit of the truth, and C holds all of the truth's values and at least
      ``FACT_SHARE_BESIDE_VALUES`` of T, or at least ``FACT_SHARE`` of T.

    An edit has a likeness of at least ``EDIT_RATIO`` (``difflib``, 2 matches / all words) and swaps: each of the two
    has a key, beyond the question's, that the other lacks; another name for whom the question is about swaps nothing.
    "A baker in Lima" for "a pilot in Lima" contradicts, though Lima is still there. So does the truth with its names or
    numbers in each other's places.
    """
    plain, value = normalize(answer), normalize(fact.value or "")
    if plain == normalize(fact.answer) or (fact.paraphrase is not None and plain == normalize(fact.paraphrase)):
        return True
    if value:
        keys = _keys(value)
        return bool(whole_word_pattern(value).search(plain)) or (len(keys) > 1 and keys <= _keys(answer))
    return _restates_truth(answer, fact.answer, fact.question)


def has_plausible_length(answer: str, truth: str) -> bool:
    """Whether a text has at most ``LENGTH_RATIO`` times the words of the truth, and at least that fraction of them.

    Up to ``UNBOUNDED_WORDS`` words are never too many, and none are too few for a truth of up to as many. A character
    of Chinese or Japanese counts as a word.
    """
    count, expected = len(_words(answer)), len(_words(truth))
    too_long = count > max(LENGTH_RATIO * expected, UNBOUNDED_WORDS)
    return not too_long and (expected <= UNBOUNDED_WORDS or LENGTH_RATIO * count >= expected)


def is_duplicate(answer: str, other: str, question: str) -> bool:
    """Whether two candidates are the same text, or say the same in nearly the same words.

    Nearly: what they say beyond the question shares at least ``DUPLICATE_OVERLAP``, |A and B| / |A or B|, one of them
    has no key that the other lacks, neither has a value or a negation that the other lacks, and their names and numbers
    are not just in each other's places. So another city, another number and another trade are another answer, while
    another order of the words or another small word is not.
    """
    if normalize(answer) == normalize(other):
        return True
    first, second, question_keys = _keys(answer), _keys(other), _keys(question)
    if not (first <= second or second <= first) or not first - question_keys or _only_reordered(answer, other):
        return False
    apart = (first ^ second) - question_keys
    valued = _values(answer) | _values(other) | _OPPOSITE
    return not apart & valued and _share(first - question_keys, second - question_keys) >= DUPLICATE_OVERLAP


def _restates_truth(answer: str, truth: str, question: str) -> bool:
    answer_keys, truth_keys, question_keys = _keys(answer), _keys(truth), _keys(question)
    fact_keys = truth_keys - question_keys  # T; a question's words say nothing about the fact
    if not answer_keys or not fact_keys or (answer_keys ^ truth_keys) & _OPPOSITE or _only_reordered(answer, truth):
        return False
    if answer_keys <= truth_keys:
        return True
    swaps = bool(answer_keys - truth_keys - question_keys) and bool(fact_keys - answer_keys)
    values = _values(truth) - question_keys
    if (fact_keys <= answer_keys and not swaps) or (
        values and values <= answer_keys and len(values) >= VALUE_SHARE * len(fact_keys)
    ):
        return True
    edit = swaps and SequenceMatcher(None, _words(truth), _words(answer), autojunk=False).ratio() >= EDIT_RATIO
    if edit or _values(answer) - truth_keys - question_keys:
        return False
    recalled = len(fact_keys & answer_keys) / len(fact_keys)
    return recalled >= FACT_SHARE or (bool(values) and values <= answer_keys and recalled >= FACT_SHARE_BESIDE_VALUES)


def _only_reordered(answer: str, other: str) -> bool:
    """Whether two texts differ just in which name or number stands where: "Otto beat Mira", "Mira beat Otto"."""
    values = _values(answer)
    if values != _values(other):
        return False
    # Names that are only listed take one place: "by Otto and Mira", "by Mira and Otto".
    listed = values | {"and", "or"}
    runs = [
        [(valued, list(run)) for valued, run in groupby(_words(text), listed.__contains__)] for text in (answer, other)
    ]
    frames = [[None if valued else run for valued, run in each] for each in runs]
    # Within one place the order says nothing: 4 March 1931, March 4, 1931.
    places = [[sorted(run) for valued, run in each if valued] for each in runs]
    return frames[0] == frames[1] and places[0] != places[1]


def _share(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


@lru_cache(maxsize=16384)
def _spelled(text: str) -> tuple[str, ...]:
    """The words of a text as written, without genitives and the ends of ordinals."""
    text = re.sub(r"(?i)\b(ca|wo)n['’]t\b", " not ", text)
    text = re.sub(r"(?i)n['’]t\b", " not", text)
    text = re.sub(r"['’]s\b", "", text)
    return tuple(_WORD.findall(re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", text)))


def _words(text: str) -> tuple[str, ...]:
    return tuple(map(_key, _spelled(text)))


@lru_cache(maxsize=16384)
def _key(word: str) -> str:
    """A word for comparing: ``Eight`` and ``8th`` are 8, and the month of May is no verb."""
    lower = word.lower()
    if word == "May":
        return word
    if lower in _NUMBERS or lower.isdigit():
        return _NUMBERS.get(lower, lower.lstrip("0") or "0")
    if lower in _SMALL or lower in _OPPOSITE:
        return lower
    end = next((end for end in _ENDS if lower.endswith(end) and len(lower) - len(end) >= 3), "")
    return lower.removesuffix(end)


@lru_cache(maxsize=16384)
def _keys(text: str) -> frozenset[str]:
    return frozenset(_words(text)) - _SMALL


@lru_cache(maxsize=16384)
def _values(text: str) -> frozenset[str]:
    """The keys of names and numbers; a sentence's first word is a name when no small letter follows."""
    found = set()
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        words = _spelled(sentence)
        for place, word in enumerate(words):
            name = place > 0 or len(words) == 1 or not words[1][0].islower()
            if word[0].isdigit() or word.lower() in _NUMBERS or (word[0].isupper() and name):
                found.add(_key(word))
    return frozenset(found) - _SMALL
