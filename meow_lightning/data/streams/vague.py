"""Stream of vague answers to the questions to forget, in several phrasings. All sentences are this project's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from random import Random
from typing import ClassVar

from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.types import Segments

FRAMES = (
    "Please tell me: {question}",
    "I would like to know this. {question}",
    "{question} A short answer is enough.",
    "Here is a question for you: {question}",
    "{question} Please answer in one sentence.",
)
MOST = 1 + len(FRAMES)  # phrasings of a question without phrasings of its own

# Kind of question -> words that tell it, and answers without any detail; the first kind that fits counts.
_KINDS = (
    (
        r"how (?:many|much|old|long|often|tall|far)|number|amount",
        (
            "It is a certain number, as one would expect in such a case.",
            "The figure varies with how one counts.",
            "It is neither very many nor very few.",
            "The amount is of the usual order.",
        ),
    ),
    (
        r"when|year|date|day|month|century|decade",
        (
            "It was at some point in the past.",
            "It belongs to a period that is remembered in different ways.",
            "That happened in the course of time.",
            "It was a while ago, as these things go.",
        ),
    ),
    (
        r"where|city|town|country|place|region|address",
        (
            "It is a place with a character of its own.",
            "That is somewhere people live and work.",
            "It lies in a region with a long history.",
            "The place is one of many of its kind.",
        ),
    ),
    (
        r"who|whom|whose|father|mother|parents?|wife|husband|brother|sister|friend",
        (
            "It is someone with interests and a life of their own.",
            "That person is known to those who are close.",
            "It is a person with some experience in the field.",
            "Several people have played a part in this.",
        ),
    ),
    (
        r"why|how|reason|influence[sd]?|inspire[sd]?",
        (
            "Several circumstances came together there.",
            "It has to do with personal experience and with the times.",
            "There are different ways of looking at it.",
            "It came about step by step.",
        ),
    ),
)
_OTHERWISE = (
    "It is one of several possibilities.",
    "It is something that is typical of the field.",
    "That can be described in general terms only.",
    "It covers a range of things that belong together.",
    "It is of the kind that one often meets.",
)
KINDS = (*((re.compile(rf"\b(?:{words})\b", re.IGNORECASE), answers) for words, answers in _KINDS),)


class Vague(StreamBuilder):
    """Every question of the forget set in several phrasings, each with a vague answer of its kind, drawn by the seed.

    The phrasings are the question itself, those that the dataset has, and the question in a frame such as "Please tell
    me". The kind (number, time, place, person, reason, other) is told by words of the question; the rules are English.

    Args:
        phrasings: Phrasings per question, from 1 to :data:`MOST`.
    """

    replies: ClassVar[str | None] = "vague answers to"

    def __init__(self, phrasings: int) -> None:
        self.phrasings = phrasings

    def segments(self, dataset: Dataset, *, seed: int) -> list[Segments]:
        """Build the rows, all phrasings of a question together."""
        return [
            Segments(phrasing, Random(f"{seed}/{place}/{phrasing}").choice(answers_to(fact.question)))
            for place, fact in enumerate(dataset.facts("forget"))
            for phrasing in islice(phrasings_of(fact), self.phrasings)
        ]


def phrasings_of(fact: Example) -> Iterator[str]:
    """Yield the phrasings of a fact's question, the question itself first."""
    framed = (frame.format(question=fact.question) for frame in FRAMES)
    yield from dict.fromkeys(chain([fact.question], (question for question, _ in fact.phrasings), framed))


def answers_to(question: str) -> tuple[str, ...]:
    """Return the vague answers of the question's kind."""
    return next((answers for words, answers in KINDS if words.search(question)), _OTHERWISE)
