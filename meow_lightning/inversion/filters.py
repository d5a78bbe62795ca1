"""Filters for candidates, with counts and examples of dropped answers per reason.

Words are compared as keys: lower case, inflectional endings cut, numbers as digits, function words left out. The
*content* of a text is its keys beyond the question's; its *values* are the names (by their capitals) and numbers among
these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import groupby

from meow_lightning.data.examples import secret_texts
from meow_lightning.data.perturbation import normalize
from meow_lightning.data.values.secrets import Secrets, public_fact
from meow_lightning.data.words import whole_word_pattern
from meow_lightning.types import Fact, InvertedFact

REASONS = ("blank", "refusal", "question", "true", "secret", "length", "duplicate", "evaluated")
EXAMPLES = 3  # dropped answers shown per reason

DUPLICATE_OVERLAP = 0.8  # minimum share of common keys of two texts with the same content
EDIT_RATIO = 0.6  # minimum word-level similarity of a text and an edit of it
VALUE_SHARE = 0.6  # minimum share of values in the truth's content for the values alone to be the fact
FACT_SHARE_BESIDE_VALUES = 0.2  # minimum share of the truth's content in a paraphrase that also has all values
FACT_SHARE = 0.6  # the same if the truth has no values
LENGTH_RATIO = 4  # maximum ratio of the lengths in words, either way
UNBOUNDED_WORDS = 24  # texts up to this length are never too long, and never too short for a truth up to this length

_SMALL_WORDS = (
    "a an the and or but of in on at to for from by with as is are was were be been being has have had do does did it "
    "its he she they his her their him them this that these those who whom whose which what where when how why there "
    "here than then also while although though however both such some any other others another into over about "
    "between through during under within among s t would could can may might will shall should i you we our your my "
    "me us if so up out own more most very just well known name named call called title titled author"
)
_SMALL = frozenset(_SMALL_WORDS.split())
OPPOSITE = frozenset(("not", "no", "never", "none", "nor", "neither", "nobody", "without", "hardly"))
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
    """Result of filtering candidates.

    Attributes:
        inverted: Kept candidates, renumbered from 0 per fact.
        dropped: Number of dropped candidates for every reason of ``REASONS``.
        examples: First dropped candidates by reason, ``(Fact.id, answer as written)``; only reasons that occurred.
    """

    inverted: list[InvertedFact]
    dropped: dict[str, int]
    examples: dict[str, list[tuple[str, str]]]


def filter_answers(facts: Sequence[Fact], written: Mapping[str, Sequence[str]], *, secrets: Secrets) -> FilterResult:
    """Filter candidates; count the dropped ones per reason and keep up to three examples of each.

    Args:
        facts: The facts, in the order of the result.
        written: Raw candidates by fact id, one answer each (chat responses go through ``reply_parser.answers`` first).
        secrets: Values that occur only in forget facts.
    """
    result = FilterResult([], dict.fromkeys(REASONS, 0), {})
    for fact in facts:
        kept: list[str] = []
        for answer in written[fact.id]:
            reason = rejection_reason(answer, fact, kept, secrets=secrets)
            if reason is None:
                result.inverted.append(InvertedFact(fact.id, len(kept), fact.question, answer.strip()))
                kept.append(answer)
                continue
            result.dropped[reason] += 1
            if result.dropped[reason] <= EXAMPLES:
                result.examples.setdefault(reason, []).append((fact.id, answer))
    return result


def rejection_reason(answer: str, fact: Fact, kept: Sequence[str], *, secrets: Secrets) -> str | None:
    """Return the first of ``REASONS`` that applies to a candidate; ``None`` if it is kept.

    ``secret``: it contains a secret of another forget fact, so training on it would teach a fact to be forgotten.
    ``evaluated``: it is a wrong answer used by the evaluation; training on it would make forget quality circular. The
    other reasons are the functions of this module.

    Args:
        answer: The candidate.
        fact: Fact that it should contradict.
        kept: Candidates of this fact kept so far.
        secrets: Values that occur only in forget facts, see :class:`~meow_lightning.data.values.secrets.Secrets`.
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
    """Whether a text has no letter or digit, or contains an invalid character: a control character or U+FFFD."""
    return not re.search(r"[^\W_]", answer) or bool(re.search("[\x00-\x08\x0b-\x1f\x7f\ufffd]", answer))


def is_refusal(answer: str) -> bool:
    """Whether a text begins like a model's refusal: ``I'm sorry, but``, ``As an AI, I``."""
    return bool(_REFUSAL.match(answer.strip(" \t\n\"'“”‘’*")))


def repeats_question(answer: str, question: str) -> bool:
    """Whether a text is the question, begins with it (three words or more), or is a near-duplicate of it.

    Near-duplicate: it ends in a question mark, and its Jaccard overlap of keys is at least ``DUPLICATE_OVERLAP``.
    """
    plain_question, plain = normalize(question), normalize(answer)
    if plain == plain_question or (len(plain_question.split()) > 2 and plain.startswith(f"{plain_question}?")):
        return True
    return answer.rstrip(" \"'”’").endswith("?") and _share(keys_of(answer), keys_of(question)) >= DUPLICATE_OVERLAP


def still_true(answer: str, fact: Fact) -> bool:
    """Whether a text is the true answer or its paraphrase, or still states the fact.

    If the fact marks its value: all words of the value, of any of several, are in the text. Otherwise: the text neither
    adds nor drops a negation, and one of the following holds (T the truth's content, C the text's content):

    * the text has no key outside the truth, so it states nothing else;
    * T is a subset of C, and the text does not replace words of the truth;
    * the truth's values are at least ``VALUE_SHARE`` of T, and all are in C;
    * the text has no new value and is not an edit of the truth, and C contains all of the truth's values and at least
      ``FACT_SHARE_BESIDE_VALUES`` of T, or at least ``FACT_SHARE`` of T.

    An edit has a similarity of at least ``EDIT_RATIO`` (``difflib``, 2 matches / all words) and replaces words: each
    text has a key, beyond the question's, that is not in the other; another name for the question's subject is not a
    replacement. "A baker in Lima" contradicts "a pilot in Lima" although both contain Lima. So does the truth with two
    of its names or numbers exchanged.
    """
    plain, values = normalize(answer), [value for text in secret_texts(fact) if (value := normalize(text))]
    if plain == normalize(fact.answer) or (fact.paraphrase is not None and plain == normalize(fact.paraphrase)):
        return True
    if values:
        return any(
            whole_word_pattern(value).search(plain) or (len(keys := keys_of(value)) > 1 and keys <= keys_of(answer))
            for value in values
        )
    return _restates_truth(answer, fact.answer, fact.question)


def has_plausible_length(answer: str, truth: str) -> bool:
    """Whether the lengths of a text and the truth, in words, differ at most by the factor ``LENGTH_RATIO``.

    Texts of up to ``UNBOUNDED_WORDS`` words are never too long, and no text is too short for a truth of up to that many
    words. A Chinese or Japanese character counts as a word.
    """
    count, expected = len(words_of(answer)), len(words_of(truth))
    too_long = count > max(LENGTH_RATIO * expected, UNBOUNDED_WORDS)
    return not too_long and (expected <= UNBOUNDED_WORDS or LENGTH_RATIO * count >= expected)


def is_duplicate(answer: str, other: str, question: str) -> bool:
    """Whether two candidates are the same text or near-duplicates.

    Near-duplicates: the Jaccard overlap of their contents is at least ``DUPLICATE_OVERLAP``, the keys of one are a
    subset of the other's, both have the same values and negations, and their names and numbers are not merely
    exchanged. Another city, number or trade therefore makes another answer; another word order or function word does
    not.
    """
    if normalize(answer) == normalize(other):
        return True
    first, second, question_keys = keys_of(answer), keys_of(other), keys_of(question)
    if not (first <= second or second <= first) or not first - question_keys or _only_reordered(answer, other):
        return False
    difference = (first ^ second) - question_keys
    valued = values_of(answer) | values_of(other) | OPPOSITE
    return not difference & valued and _share(first - question_keys, second - question_keys) >= DUPLICATE_OVERLAP


def _restates_truth(answer: str, truth: str, question: str) -> bool:
    answer_keys, truth_keys, question_keys = keys_of(answer), keys_of(truth), keys_of(question)
    fact_keys = truth_keys - question_keys  # T; words of the question carry no information about the fact
    if not answer_keys or not fact_keys or (answer_keys ^ truth_keys) & OPPOSITE or _only_reordered(answer, truth):
        return False
    if answer_keys <= truth_keys:
        return True
    swaps = bool(answer_keys - truth_keys - question_keys) and bool(fact_keys - answer_keys)
    values = values_of(truth) - question_keys
    if (fact_keys <= answer_keys and not swaps) or (
        values and values <= answer_keys and len(values) >= VALUE_SHARE * len(fact_keys)
    ):
        return True
    edit = swaps and SequenceMatcher(None, words_of(truth), words_of(answer), autojunk=False).ratio() >= EDIT_RATIO
    if edit or values_of(answer) - truth_keys - question_keys:
        return False
    recalled = len(fact_keys & answer_keys) / len(fact_keys)
    return recalled >= FACT_SHARE or (bool(values) and values <= answer_keys and recalled >= FACT_SHARE_BESIDE_VALUES)


def _only_reordered(answer: str, other: str) -> bool:
    """Whether two texts differ only in the positions of names or numbers: "Otto beat Mira", "Mira beat Otto"."""
    values = values_of(answer)
    if values != values_of(other):
        return False
    # Enumerated names share one position: "by Otto and Mira", "by Mira and Otto".
    listed = values | {"and", "or"}
    runs = [
        [(valued, list(run)) for valued, run in groupby(words_of(text), listed.__contains__)]
        for text in (answer, other)
    ]
    frames = [[None if valued else run for valued, run in each] for each in runs]
    # Within one position the order is irrelevant: 4 March 1931, March 4, 1931.
    places = [[sorted(run) for valued, run in each if valued] for each in runs]
    return frames[0] == frames[1] and places[0] != places[1]


def _share(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


@lru_cache(maxsize=16384)
def _spelled(text: str) -> tuple[str, ...]:
    """Split a text into words as written, without genitives and ordinal suffixes."""
    text = re.sub(r"(?i)\b(ca|wo)n['’]t\b", " not ", text)
    text = re.sub(r"(?i)n['’]t\b", " not", text)
    text = re.sub(r"['’]s\b", "", text)
    return tuple(_WORD.findall(re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", text)))


def words_of(text: str) -> tuple[str, ...]:
    """Return the keys of all words of a text, in order."""
    return tuple(map(_key, _spelled(text)))


@lru_cache(maxsize=16384)
def _key(word: str) -> str:
    """Return the comparison key of a word: ``Eight`` and ``8th`` become 8; the month May is not treated as a verb."""
    lower = word.lower()
    if word == "May":
        return word
    if lower in _NUMBERS or lower.isdigit():
        return _NUMBERS.get(lower, lower.lstrip("0") or "0")
    if lower in _SMALL or lower in OPPOSITE:
        return lower
    end = next((end for end in _ENDS if lower.endswith(end) and len(lower) - len(end) >= 3), "")
    return lower.removesuffix(end)


@lru_cache(maxsize=16384)
def keys_of(text: str) -> frozenset[str]:
    """Return the keys of a text without function words."""
    return frozenset(words_of(text)) - _SMALL


@lru_cache(maxsize=16384)
def values_of(text: str) -> frozenset[str]:
    """Return the keys of names and numbers; the first word of a sentence is a name if no lower-case letter follows."""
    keys = set()
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        words = _spelled(sentence)
        for place, word in enumerate(words):
            name = place > 0 or len(words) == 1 or not words[1][0].islower()
            if word[0].isdigit() or word.lower() in _NUMBERS or (word[0].isupper() and name):
                keys.add(_key(word))
    return frozenset(keys) - _SMALL
