"""Contradictions borrowed from alike questions about kept facts: what another's answer says, said of this one."""

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

SMALL = 3  # letters of words that carry no meaning by themselves, at most
ALIKE = 0.5  # likeness of questions from which on another's answer is in place
COMMON = 0.2  # share of the questions that a word may stand in to lead to alike ones
RETOLD = 0.3  # share of what the truth says that an answer in other words may hold
PROSE = 6  # words beyond the question from which on an answer is prose
LONGER = 2.0  # times as many words as the truth that a borrowed answer may have, where it is longer than a sentence
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
class _Asked:
    """A question: whom it is about, its words apart from names, and what it names besides."""

    subject: str
    words: frozenset[str]
    named: tuple[tuple[str, str], ...]  # kind, words


class Alike:
    """Finds what kept facts' answers say to a question.

    Two questions are alike by the words they share apart from names, each weighed by how rare it is among all kept
    questions: idf(A and B) / idf(A or B), 0 to 1. Whom a question is about is the name in it that most questions hold.

    Args:
        retain: Kept facts; none that is to be forgotten lends anything.
        forget: The facts to forget, which tell who is who.
    """

    def __init__(self, retain: Sequence[Fact], forget: Sequence[Fact]) -> None:
        self._facts = retain
        every = [*retain, *forget]
        self._counts = Counter(name for fact in every for name in set(full_names(fact.question)))
        said: dict[str, Counter[str]] = defaultdict(Counter)
        for fact in every:
            if gender := gender_of(_without_kin(fact.answer)):
                said[self.subject(fact.question)][gender] += 1
        self.genders = {name: found.most_common(1)[0][0] for name, found in said.items() if name}
        self._asked = [self._parse(fact.question) for fact in retain]
        seen = Counter(word for asked in self._asked for word in asked.words)
        self._weights = {word: math.log(1 + len(retain) / count) for word, count in seen.items()}
        self._unseen = math.log(1 + max(1, len(retain)))
        self._by_word: dict[str, list[int]] = defaultdict(list)
        self._totals = [sum(self._weights[word] for word in sorted(asked.words)) for asked in self._asked]
        for place, asked in enumerate(self._asked):
            for word in asked.words:
                self._by_word[word].append(place)

    def subject(self, question: str) -> str:
        """Whom a question is about; empty where it names nobody by two words or more."""
        return max(full_names(question), key=lambda name: (self._counts[name], len(name)), default="")

    def gender(self, question: str) -> str | None:
        """``female`` or ``male`` of whom a question is about, by the pronouns of the answers about the same one."""
        return self.genders.get(self.subject(question)) or gender_of(question)

    def values(self, fact: Fact, *, least: float) -> Iterator[str]:
        """The marked values of kept facts that answer alike questions, the most alike first.

        Args:
            fact: What to contradict.
            least: Least likeness.
        """
        for _, place in self._ranked(fact, least):
            if value := self._facts[place].value:
                yield value

    def answers(self, fact: Fact, *, least: float, topics: bool) -> Iterator[str]:
        """The answers to alike questions about somebody else, with this one's names and gender in them.

        Left out are answers that say nothing, that tell what only the other's are (an address, a number), that answer
        yes where the truth does, or that speak of what only the other question names.

        Args:
            fact: What to contradict.
            least: Least likeness.
            topics: Whether both questions must name the same nationalities, so that "American literature" is no answer
                to a question about French literature.
        """
        mine = self._parse(fact.question)
        for _, place in self._ranked(fact, least):
            if topics and _topics(self._asked[place]) != _topics(mine):
                continue
            found = self._said(fact, mine, place)
            if found and contradicting(found, fact):
                yield found

    def _said(self, fact: Fact, mine: _Asked, place: int) -> str | None:
        other, theirs = self._facts[place], self._asked[place]
        answer = _opened(fact, other)
        if answer is None or _EMPTY.search(answer) or not mine.subject or not theirs.subject:
            return None
        if set(mine.subject.split()) & set(theirs.subject.split()):
            return None
        if len(answer.split()) > max(SENTENCE, LONGER * len(fact.answer.split())):
            return None
        if any(span.kind in PERSONAL and span.kind != "date" for span in spans(answer, other.question)):
            return None
        named = _renamed(answer, theirs, mine)
        return None if named is None else self._agreeing(named, fact.question, other.question)

    def _agreeing(self, answer: str, question: str, theirs: str) -> str | None:
        """The answer with the pronouns of whom the question is about; ``None`` where these cannot be told apart."""
        gender, other = self.gender(question), gender_of(_without_kin(answer)) or self.gender(theirs)
        if gender is not None and _THEY.search(answer) and not gender_of(_without_kin(answer)):
            return None
        if gender is None or gender == other or not gender_of(_without_kin(answer)):
            return answer
        return None if _KIN.search(answer) else with_gender(answer, gender)

    def _ranked(self, fact: Fact, least: float) -> list[tuple[float, int]]:
        """(-likeness, place) of alike questions about others, the most alike first."""
        mine = self._parse(fact.question)
        own = sum(self._weights.get(word, self._unseen) for word in sorted(mine.words))
        shared: dict[int, float] = defaultdict(float)
        often = {word for word in mine.words if len(self._by_word.get(word, ())) > COMMON * len(self._facts) + 1}
        often = often if least >= ALIKE and often != mine.words else set()  # what is remote may share no rare word
        for word in sorted(mine.words - often):
            for place in self._by_word.get(word, ()):
                shared[place] += self._weights[word]
        for place in shared:
            words = self._asked[place].words
            shared[place] += sum(self._weights[word] for word in sorted(often) if word in words)
        found = []
        for place, weight in shared.items():
            theirs = self._asked[place]
            share = weight / (own + self._totals[place] - weight)
            share *= 1.0 if len(theirs.named) == len(mine.named) else 0.8
            if share >= least:
                found.append((-share, place))
        return sorted(found)

    @lru_cache(maxsize=65536)  # noqa: B019 - lives as long as what it reads
    def _parse(self, question: str) -> _Asked:
        subject = self.subject(question)
        plain = question.replace(subject, " ") if subject else question
        named = [(span.kind, span.text) for span in spans(plain, "") if span.kind in _NAMED]
        named = [(kind, _BEGINNING.sub("", text)) for kind, text in named]
        named = [(kind, text.strip(" \"'“”‘’.,")) for kind, text in named if text and f"{text} " not in _BEGINNINGS]
        for _, text in named:
            plain = plain.replace(text, " ")
        return _Asked(subject, frozenset(map(_stem, re.findall(r"[a-z0-9]+", plain.lower()))) - _NOISE, tuple(named))


@lru_cache(maxsize=65536)
def full_names(question: str) -> tuple[str, ...]:
    """The names of several words in a question, without its first words and their genitive."""
    bare = re.sub(r"[\"“][^\"“”]*[\"”]", " ", question)
    found = (_BEGINNING.sub("", match.group()) for match in NAME.finditer(bare))
    return tuple(name for each in found if " " in (name := re.split(r"['’]s?(?:\s|$)", each)[0]))


def contradicting(text: str, fact: Fact) -> bool:
    """Whether a lent answer says something else than the truth.

    Some word that carries meaning is new in it. Of those that the truth says beyond the question it lacks one and,
    where these are ``PROSE`` or more, holds at most ``RETOLD``. It holds fewer than half of the truth's names and
    numbers.
    """
    asked, true, said = _meaning(fact.question), _meaning(fact.answer), _meaning(text)
    told = true - asked
    if not said - true or (told and told <= said):
        return False
    if len(told) >= PROSE and len(told & said) > RETOLD * len(told):
        return False
    values = set(_VALUE.findall(fact.answer)) - set(_VALUE.findall(fact.question)) - {fact.answer.split(maxsplit=1)[0]}
    return not values or 2 * len(values & set(_VALUE.findall(text))) < len(values)


def with_gender(text: str, gender: str) -> str:
    """A text with the pronouns of a gender (``female`` or ``male``) in the place of the other one's."""
    if gender == "male":
        text = re.sub(rf"\b([Hh])er\b{_OBJECT_END}", lambda found: found.group(1) + "im", text)
        text = re.sub(r"\b([Hh])er\b", lambda found: found.group(1) + "is", text)
    swaps = _MALE if gender == "male" else _FEMALE

    def other(found: re.Match[str]) -> str:
        new = swaps[found.group().lower()]
        return new.capitalize() if found.group()[0].isupper() else new

    return re.sub(rf"\b(?:{'|'.join(swaps)})\b", other, text, flags=re.IGNORECASE)


def _topics(asked: _Asked) -> set[str]:
    return {text for kind, text in asked.named if kind in ("nationality", "country")}


def _opened(fact: Fact, other: Fact) -> str | None:
    """What the other answer may say: the opposite of yes or no, or without it where this question is another."""
    truth, theirs = polarity_of(fact.question, fact.answer), polarity_of(other.question, other.answer)
    if truth is not None:
        return other.answer if theirs not in (None, truth) else None
    if theirs is None:
        begun = re.match(r"(?:Yes|Certainly|Sure|Indeed|Absolutely),\s+", other.answer)
        rest = other.answer[begun.end() :] if begun else other.answer
        return rest[:1].upper() + rest[1:]
    return None


def _renamed(answer: str, theirs: _Asked, mine: _Asked) -> str | None:
    """The answer with this question's names in the place of the other's; ``None`` where one of those is left over."""
    swaps = {}
    left = list(mine.named)
    for kind, text in theirs.named:
        pair = next((each for each in left if each[0] == kind), None)
        if pair:
            left.remove(pair)
            swaps[text] = pair[1]
        elif text in answer:
            return None
    own, other = mine.subject.split(), theirs.subject.split()
    swaps |= {theirs.subject: mine.subject, other[-1]: own[-1], other[0]: own[0]}
    found = any_whole_word_pattern(swaps).sub(lambda match: swaps[match.group()], answer)
    return None if any(len(part) > SMALL and re.search(rf"\b{re.escape(part)}\b", found) for part in other) else found


def _without_kin(text: str) -> str:
    """A text without words of kin, which say nothing of the gender of whom it is about."""
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
