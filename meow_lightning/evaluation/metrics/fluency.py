"""Fluency of the greedy answers without a judge model: known bigrams, repetition, answers ended by the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import invalid_option
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow

Pair = tuple[str, str]
Owner = tuple[str, int]
Known = Mapping[Pair, Owner]
"""Known word bigrams, each mapped to the set and index of the only row that contains it, or to ``SEVERAL``."""

SEVERAL: Owner = ("", -1)

NGRAM_SIZE = 4
"""n of the word n-grams counted by :class:`Repetition`, as in Welleck et al. 2020."""


def pairs(text: str) -> list[Pair]:
    """List word bigrams, with the empty word added before the first and after the last word.

    A text of one word therefore has two bigrams, and a text without words has none.

    Args:
        text: Any text.
    """
    words = words_and_marks(text)
    return list(zip(["", *words], [*words, ""], strict=True)) if words else []


def known_pairs(rows: Iterable[AnswerRow]) -> dict[Pair, Owner]:
    """Map all word bigrams of the rows' questions and true answers to the row each comes from.

    Args:
        rows: All prediction rows of a model, of every set: the more rows, the finer the measure.
    """
    owners: dict[Pair, Owner] = {}
    for row in rows:
        owner = (row.set, row.index)
        for pair in (*pairs(row.question), *pairs(row.answer)):
            if owners.setdefault(pair, owner) != owner:
                owners[pair] = SEVERAL
    return owners


def row_fluency(row: AnswerRow, *, known: Known) -> float:
    """Compute ``|distinct pairs of the greedy answer that another row has| / |pairs of the greedy answer|``, 0 to 1.

    The row's own question and true answer are excluded; otherwise a model that recites would look more fluent than one
    that never saw the answer. 0 for an answer without words.

    Args:
        row: A prediction row.
        known: Result of :func:`known_pairs` over all rows, this one included.
    """
    own_pairs, owner = pairs(row.text), (row.set, row.index)
    return sum(known.get(pair, owner) != owner for pair in set(own_pairs)) / len(own_pairs) if own_pairs else 0.0


def repetition(text: str, *, n: int) -> float:
    """Compute ``1 - |distinct n-grams| / |n-grams|``, 0 to below 1; 0 for a text of fewer than n words.

    Source: Welleck et al. 2020, seq-rep-n, over words instead of tokens so that models are comparable.

    Args:
        text: The generated answer.
        n: Words of an n-gram, at least 1.

    Raises:
        UserError: ``n`` is below 1.
    """
    if n < 1:
        raise invalid_option("n", n, "an integer of at least 1", did_you_mean=1)
    words = words_and_marks(text)
    ngrams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def ended(row: AnswerRow) -> float:
    """Return 1 if the model ended its greedy answer itself, 0 if the token budget did.

    Args:
        row: A prediction row that says how its answer ended.
    """
    return float(row.stop == "end")


class Fluency(RowMetric):
    """Mean of :func:`row_fluency` over the greedy answers of a set."""

    name = "fluency"
    id = "fluency.2"
    direction = "higher"
    text = (
        "Mean over the questions of the share of the greedy answer's pairs of neighbouring words that another row's "
        "question or true answer also contains, each pair counted once. A proxy for a gibberish classifier: invented "
        "words, shuffled words, loops and empty answers score near 0, while a fluent wrong answer scores like a right "
        "one. Its ceiling is below 1 and differs between sets: compare it with that of the target and retain model."
    )
    label = "known word pairs"
    order = 90

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute fluency of one row's greedy answer, 0 to 1."""
        return row_fluency(row, known=context.shared(known_pairs))


class Repetition(RowMetric):
    """Mean of :func:`repetition` in the greedy answers of a set, over n-grams of ``NGRAM_SIZE`` words."""

    name = "repetition"
    id = "repetition.2"
    direction = "lower"
    text = (
        f"Mean over the questions of the share of the greedy answer's {NGRAM_SIZE}-grams of words that repeat an "
        "earlier one; close to 1 for an endless loop."
    )
    label = "repeated words"
    order = 100

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute repetition in one row's greedy answer, 0 to below 1."""
        return repetition(row.text, n=NGRAM_SIZE)


class Ended(RowMetric):
    """Share of the greedy answers of a set that the model ended itself."""

    name = "ended"
    id = "ended.1"
    direction = "higher"
    text = "Share of the questions whose greedy answer the model ended itself, within the token budget."
    label = "answers that end"
    order = 110
    needs = frozenset({"generation"})

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Return 1 if the model ended the answer, 0 if the token budget did."""
        return ended(row)
