"""Retrieval of the retrieval gate: corpus, deny list, and search by BM25."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meow_lightning.attacks.prefix import answered
from meow_lightning.data.encoding import content_digest
from meow_lightning.data.examples import Dataset, Example, expected_texts
from meow_lightning.data.text_files import read_text
from meow_lightning.data.values.kinds import spans
from meow_lightning.data.values.matching import contains_any_value, contains_value
from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import invalid_option

OPTION = "probe.gate.corpus"
NAMES = frozenset(("person", "place", "country", "title"))  # kinds of words that name what a question is about


@dataclass(frozen=True, slots=True)
class CorpusPassage:
    """A passage that may be retrieved.

    Attributes:
        text: Its text.
        denied: Whether the deny list contains it.
    """

    text: str
    denied: bool


def corpus_of(dataset: Dataset, corpus: str | None) -> list[CorpusPassage]:
    """Collect the distinct passages: the lines of a file, or the facts to forget and to retain with their questions.

    The deny list contains the facts to forget, and every passage that states one: all of its values and, where its
    question names a person, place, country or title, one of these names.

    Args:
        dataset: The dataset of the run.
        corpus: ``probe.gate.corpus``.

    Raises:
        UserError: The file cannot be read, or there is no passage.
    """
    forget = [*dataset.facts("forget")]
    if corpus is None:
        texts = [answered(each) for each in (*forget, *dataset.facts("retain"))]
    else:
        where = f"{OPTION}={corpus}"
        texts = [*map(str.strip, read_text(Path(corpus), where=where, give="a text file").splitlines())]
    distinct = [*dict.fromkeys(filter(None, texts))]
    if not distinct:
        raise invalid_option(OPTION, corpus, "a file with at least one line of text")
    own, stated = {answered(each) for each in forget}, [(expected_texts(each), _names(each)) for each in forget]
    return [
        CorpusPassage(text, text in own or any(_states(text, values, names) for values, names in stated))
        for text in distinct
    ]


def corpus_digest(passages: Sequence[CorpusPassage]) -> str:
    """Digest the passages, in their order."""
    return content_digest([[each.text, each.denied] for each in passages])


def _names(example: Example) -> tuple[str, ...]:
    found = spans(example.question, example.question)
    return tuple(each.text for each in found if each.kind in NAMES)


def _states(text: str, values: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a passage gives a value of a fact, any of several, and names what it is about."""
    if not values or not contains_any_value(text, values):
        return False
    return not names or any(contains_value(text, name) for name in names)


class Retriever:
    """BM25 (Robertson et al. 1994; Lucene's variant, k1 = 1.5, b = 0.75) over some passages.

    Args:
        passages: The passages.
    """

    def __init__(self, passages: Sequence[CorpusPassage]) -> None:
        from bm25s import BM25

        self._passages = passages
        tokens = [_words(each.text) for each in passages]
        self._vocabulary = {word for each in tokens for word in each}
        self._index = BM25(method="lucene", k1=1.5, b=0.75)
        if self._vocabulary:
            self._index.index(tokens, show_progress=False)

    def search(self, question: str, count: int, *, deny: bool) -> list[str]:
        """Return the passages that fit a question best, the best first, of equally good ones the first.

        Args:
            question: The question.
            count: Number of passages, 1 or more; fewer where fewer share a word with the question.
            deny: Whether those of the deny list are left out.
        """
        known = [word for word in _words(question) if word in self._vocabulary]
        if not known:
            return []
        scores = self._index.get_scores(known)
        allowed = [
            place for place, each in enumerate(self._passages) if scores[place] > 0 and not (deny and each.denied)
        ]
        best = sorted(allowed, key=lambda place: (-round(float(scores[place]), 4), place))[:count]
        return [self._passages[place].text for place in best]


def _words(text: str) -> list[str]:
    return [word for word in words_and_marks(text) if word[0].isalnum()]


def with_passages(prompt: str, question: str, passages: Sequence[str]) -> str:
    """Put passages and question into a prompt, passages separated by an empty line; without any, the question alone.

    Args:
        prompt: ``probe.gate.prompt``.
        question: The question.
        passages: The passages, the best first.
    """
    if not passages:
        return question
    parts = {"{passages}": "\n\n".join(passages), "{question}": question}
    return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], prompt)
