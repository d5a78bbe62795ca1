"""Wrong answers borrowed from retain facts: another subject's answer to a similar question."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from meow_lightning.data.values.generators import gender_of
from meow_lightning.data.values.kinds import NAME, PERSONAL, spans
from meow_lightning.data.values.polarity import polarity_of
from meow_lightning.data.words import any_whole_word_pattern
from meow_lightning.types import Fact

SMALL = 3  # maximum length of function words, in letters
SIMILAR = 0.5  # minimum similarity of questions between which an answer can be borrowed
RELATED = 0.2  # minimum similarity of questions that ask for the same kind of thing
COMMON = 0.2  # maximum share of questions that contain a word used to find similar ones
MAX_OVERLAP = 0.3  # maximum share of the true answer's words in a borrowed prose answer
PROSE = 6  # minimum number of words not in the question for an answer to count as prose
LONGER = 2.0  # maximum length of a borrowed answer relative to the true one, if longer than a sentence
SENTENCE = 30  # words
_BEGINNINGS = (
    "What Who Whom Whose Which Where When Why How Can Could Would Will Did Does Do Is Are Was Were Has Have Had In On "
    "At For From Through By With Regarding Considering The A An Author Apart Besides Tell Name Describe Please Yes "
    "No As Of"
)
_BEGINNING = re.compile(rf"^(?:(?:{'|'.join(_BEGINNINGS.split())})\s+)+")
_EMPTY = re.compile(
    r"\b(?:unknown|unclear|undisclosed|unavailable|not (?:\w+ ){0,2}(?:known|available|disclosed|specified|confirmed|"
    r"clear|mentioned|public|revealed)|no (?:\w+ ){0,2}(?:information|record|evidence|details))\b|"
    r"n['’]t (?:\w+ ){0,2}(?:known|available|disclosed|specified|revealed)\b|\bspecific (?:details|events)\b",
    re.IGNORECASE,
)
_KIN = re.compile(r"\b(?:father|mother|parents?|wife|husband|brother|sister|son|daughter)\b", re.IGNORECASE)
_THEY = re.compile(r"\b(?:they|them|their|theirs|themselves)\b", re.IGNORECASE)
_VALUE = re.compile(r"\b(?:[A-Z][\w-]{2,}|\d{2,}\w*)")
_NAMED = ("title", "award", "company", "nationality", "place", "country", "person")
_MALE = {"she": "he", "hers": "his", "herself": "himself", "woman": "man", "female": "male", "mrs": "mr", "ms": "mr"}
_FEMALE = {"he": "she", "his": "her", "him": "her", "himself": "herself", "man": "woman", "male": "female", "mr": "ms"}
_OBJECT_END = r"(?=\s*(?:[.,;:!?]|\Z|\s(?:to|in|at|for|and|as|with|from|on|by|of|through|into|when|while|that)\b))"


@dataclass(frozen=True, slots=True)
class _ParsedQuestion:
    """A parsed question: its subject, its words without names, and the other names in it."""

    subject: str
    words: frozenset[str]
    named: tuple[tuple[str, str], ...]  # kind, words


class SimilarQuestions:
    """Retrieval of retain facts with questions similar to a given one.

    Similarity is idf(A and B) / idf(A or B), from 0 to 1, over the words of two questions without names, weighted by
    their rarity among all questions. A question's subject is the name in it that occurs in most questions.

    Args:
        retain: Retain facts, the only source of borrowed answers.
        forget: The facts to forget, which help to identify subjects.
    """

    def __init__(self, retain: Sequence[Fact], forget: Sequence[Fact]) -> None:
        self._facts = retain
        every = [*retain, *forget]
        self._counts = Counter(name for fact in every for name in set(full_names(fact.question)))
        genders: dict[str, Counter[str]] = defaultdict(Counter)
        for fact in every:
            if gender := gender_of(_without_kin(fact.answer)):
                genders[self.subject(fact.question)][gender] += 1
        self.genders = {name: counts.most_common(1)[0][0] for name, counts in genders.items() if name}
        self._questions = [self._parse(fact.question) for fact in retain]
        frequency = Counter(word for question in self._questions for word in question.words)
        self._weights = {word: math.log(1 + len(retain) / count) for word, count in frequency.items()}
        self._unseen = math.log(1 + max(1, len(retain)))
        self._by_word: dict[str, list[int]] = defaultdict(list)
        self._totals = [sum(self._weights[word] for word in sorted(question.words)) for question in self._questions]
        for index, question in enumerate(self._questions):
            for word in question.words:
                self._by_word[word].append(index)

    def subject(self, question: str) -> str:
        """Find the subject of a question; empty if it contains no name of two words or more."""
        return max(full_names(question), key=lambda name: (self._counts[name], len(name)), default="")

    def gender(self, question: str) -> str | None:
        """Infer the gender of a question's subject, ``female`` or ``male``, from the pronouns of its answers."""
        return self.genders.get(self.subject(question)) or gender_of(question)

    def values(self, fact: Fact, *, min_similarity: float) -> Iterator[str]:
        """Yield the marked values of retain facts with similar questions, most similar first.

        Args:
            fact: The fact to contradict.
            min_similarity: Minimum similarity.
        """
        for _, index in self._ranked(fact, min_similarity):
            if value := self._facts[index].value:
                yield value

    def facts(self, fact: Fact) -> Iterator[Fact]:
        """Yield the retain facts with questions at least ``RELATED`` similar, most similar first.

        Answers without content, such as "is not documented", are skipped.
        """
        for _, index in self._ranked(fact, RELATED):
            if not _EMPTY.search(self._facts[index].answer):
                yield self._facts[index]

    def answers(self, fact: Fact, *, min_similarity: float, topics: bool) -> Iterator[str]:
        """Yield the answers to similar questions about other subjects, with this subject's names and gender.

        Skipped are answers without content, with data specific to the other subject (an address, a number), with the
        same polarity as the true answer, or about things that only the other question mentions.

        Args:
            fact: The fact to contradict.
            min_similarity: Minimum similarity.
            topics: Whether both questions must mention the same nationalities, so that "American literature" does not
                answer a question about French literature.
        """
        parsed = self._parse(fact.question)
        for _, index in self._ranked(fact, min_similarity):
            if topics and _topics(self._questions[index]) != _topics(parsed):
                continue
            answer = self._borrowed(fact, parsed, index)
            if answer and contradicting(answer, fact):
                yield answer

    def _borrowed(self, fact: Fact, parsed: _ParsedQuestion, index: int) -> str | None:
        other, theirs = self._facts[index], self._questions[index]
        answer = _with_polarity(fact, other)
        if answer is None or _EMPTY.search(answer) or not parsed.subject or not theirs.subject:
            return None
        if set(parsed.subject.split()) & set(theirs.subject.split()):
            return None
        if len(answer.split()) > max(SENTENCE, LONGER * len(fact.answer.split())):
            return None
        if any(span.kind in PERSONAL and span.kind != "date" for span in spans(answer, other.question)):
            return None
        named = _substitute_names(answer, theirs, parsed)
        return None if named is None else self._agreeing(named, fact.question, other.question)

    def _agreeing(self, answer: str, question: str, theirs: str) -> str | None:
        """Adapt an answer's pronouns to the question's subject; ``None`` if they are ambiguous."""
        gender, other = self.gender(question), gender_of(_without_kin(answer)) or self.gender(theirs)
        if gender is not None and _THEY.search(answer) and not gender_of(_without_kin(answer)):
            return None
        if gender is None or gender == other or not gender_of(_without_kin(answer)):
            return answer
        return None if _KIN.search(answer) else with_gender(answer, gender)

    def _ranked(self, fact: Fact, min_similarity: float) -> list[tuple[float, int]]:
        """Rank similar questions about other subjects: (-similarity, index), most similar first."""
        parsed = self._parse(fact.question)
        own = sum(self._weights.get(word, self._unseen) for word in sorted(parsed.words))
        shared: dict[int, float] = defaultdict(float)
        frequent = {word for word in parsed.words if len(self._by_word.get(word, ())) > COMMON * len(self._facts) + 1}
        if min_similarity < SIMILAR or frequent == parsed.words:
            frequent = set()  # less similar questions may share only common words
        for word in sorted(parsed.words - frequent):
            for index in self._by_word.get(word, ()):
                shared[index] += self._weights[word]
        for index in shared:
            words = self._questions[index].words
            shared[index] += sum(self._weights[word] for word in sorted(frequent) if word in words)
        ranked = []
        for index, weight in shared.items():
            theirs = self._questions[index]
            share = weight / (own + self._totals[index] - weight)
            share *= 1.0 if len(theirs.named) == len(parsed.named) else 0.8
            if share >= min_similarity:
                ranked.append((-share, index))
        return sorted(ranked)

    @lru_cache(maxsize=65536)  # noqa: B019 - the cache lives as long as the facts it reads
    def _parse(self, question: str) -> _ParsedQuestion:
        subject = self.subject(question)
        plain = question.replace(subject, " ") if subject else question
        named = [(span.kind, span.text) for span in spans(plain, "") if span.kind in _NAMED]
        named = [(kind, _BEGINNING.sub("", text)) for kind, text in named]
        named = [(kind, text.strip(" \"'“”‘’.,")) for kind, text in named if text and f"{text} " not in _BEGINNINGS]
        for _, text in named:
            plain = plain.replace(text, " ")
        stems = frozenset(map(_stem, re.findall(r"[a-z0-9]+", plain.lower())))
        return _ParsedQuestion(subject, stems - _NOISE, tuple(named))


@lru_cache(maxsize=65536)
def full_names(question: str) -> tuple[str, ...]:
    """Find the multi-word names in a question, without its first words and genitives."""
    bare = re.sub(r"[\"“][^\"“”]*[\"”]", " ", question)
    names = (_BEGINNING.sub("", match.group()) for match in NAME.finditer(bare))
    return tuple(name for each in names if " " in (name := re.split(r"['’]s?(?:\s|$)", each)[0]))


def contradicting(text: str, fact: Fact) -> bool:
    """Whether a borrowed answer contradicts the true one.

    It has a meaningful word that is new, and of the true answer's words beyond the question it omits at least one and,
    if these are ``PROSE`` or more, contains at most ``MAX_OVERLAP``. It contains fewer than half of the true answer's
    names and numbers.
    """
    question, true, borrowed = _meaning(fact.question), _meaning(fact.answer), _meaning(text)
    new = true - question
    if not borrowed - true or (new and new <= borrowed):
        return False
    if len(new) >= PROSE and len(new & borrowed) > MAX_OVERLAP * len(new):
        return False
    values = set(_VALUE.findall(fact.answer)) - set(_VALUE.findall(fact.question)) - {fact.answer.split(maxsplit=1)[0]}
    return not values or 2 * len(values & set(_VALUE.findall(text))) < len(values)


def with_gender(text: str, gender: str) -> str:
    """Replace a text's pronouns by those of a gender (``female`` or ``male``)."""
    if gender == "male":
        text = re.sub(rf"\b([Hh])er\b{_OBJECT_END}", lambda match: match.group(1) + "im", text)
        text = re.sub(r"\b([Hh])er\b", lambda match: match.group(1) + "is", text)
    swaps = _MALE if gender == "male" else _FEMALE

    def other(match: re.Match[str]) -> str:
        new = swaps[match.group().lower()]
        return new.capitalize() if match.group()[0].isupper() else new

    return re.sub(rf"\b(?:{'|'.join(swaps)})\b", other, text, flags=re.IGNORECASE)


def _topics(question: _ParsedQuestion) -> set[str]:
    return {text for kind, text in question.named if kind in ("nationality", "country")}


def _with_polarity(fact: Fact, other: Fact) -> str | None:
    """Return the other answer if its polarity is opposite or, without a yes-no question, absent; else ``None``."""
    truth, theirs = polarity_of(fact.question, fact.answer), polarity_of(other.question, other.answer)
    if truth is not None:
        return other.answer if theirs not in (None, truth) else None
    if theirs is None:
        begun = re.match(r"(?:Yes|Certainly|Sure|Indeed|Absolutely),\s+", other.answer)
        rest = other.answer[begun.end() :] if begun else other.answer
        return rest[:1].upper() + rest[1:]
    return None


def _substitute_names(answer: str, theirs: _ParsedQuestion, ours: _ParsedQuestion) -> str | None:
    """Replace the other question's names in an answer by this one's; ``None`` if one cannot be replaced."""
    swaps = {}
    left = list(ours.named)
    for kind, text in theirs.named:
        pair = next((each for each in left if each[0] == kind), None)
        if pair:
            left.remove(pair)
            swaps[text] = pair[1]
        elif text in answer:
            return None
    own, other = ours.subject.split(), theirs.subject.split()
    swaps |= {theirs.subject: ours.subject, other[-1]: own[-1], other[0]: own[0]}
    renamed = any_whole_word_pattern(swaps).sub(lambda match: swaps[match.group()], answer)
    return (
        None if any(len(part) > SMALL and re.search(rf"\b{re.escape(part)}\b", renamed) for part in other) else renamed
    )


def _without_kin(text: str) -> str:
    """Drop kinship terms, which do not indicate the subject's gender."""
    return _KIN.sub(" ", text)


def _stem(word: str) -> str:
    for end in ("ings", "ing", "ed", "es", "s", "e"):
        if word.endswith(end) and len(word) - len(end) > SMALL:
            return word.removesuffix(end)
    return word


_NOISE_WORDS = "s the a an of in on to for and or is are was were has have had do does did his her their he she it"
_NOISE = frozenset(_NOISE_WORDS.split())


@lru_cache(maxsize=65536)
def _meaning(text: str) -> frozenset[str]:
    bare = NAME.sub(" ", text)
    return frozenset(word for word in map(_stem, re.findall(r"[a-z0-9]+", bare.lower())) if len(word) > SMALL)
