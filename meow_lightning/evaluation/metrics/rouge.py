"""ROUGE-L and ROUGE-1 recall of the true answer in the generated one (Lin 2004)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.words import PUBLISHED_ALONE, Words, has_words, unreadable
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.memo.rouge import window_score
from meow_lightning.types import AnswerRow

_UNITS = "words stemmed; scripts without spaces between words are counted by character."


def rouge_l_recall(answer: str, text: str, *, kind: Words = "unicode") -> float:
    """Compute ROUGE-L recall ``LCS(answer, text) / words(answer)``, 0 to 1; 0 if either has no word.

    Source: Lin 2004, as implemented by Google's rouge_score 0.1.2, which TOFU uses.

    Args:
        answer: The true answer.
        text: The generated answer.
        kind: How words are split, see :func:`meow_lightning.data.words.words`.
    """
    return window_score(text, answer, rouge="rougeL", rouge_stat="recall", kind=kind)


def row_rouge_l_recall(row: AnswerRow, *, kind: Words = "unicode") -> float | None:
    """Compute ROUGE-L recall of one row's greedy answer, 0 to 1; ``None`` if the true answer has no word.

    Published code gives 0 in that case.

    Args:
        row: A prediction row.
        kind: How words are split.
    """
    return rouge_l_recall(row.answer, row.text, kind=kind) if _counts(row, kind) else None


def rouge_1_recall(answer: str, text: str, *, kind: Words = "unicode") -> float:
    """Compute ROUGE-1 recall ``sum_w min(count_answer(w), count_text(w)) / words(answer)``, 0 to 1.

    Never below ROUGE-L recall, since order does not count; 0 if either has no word. Source: Lin 2004, as implemented
    by Google's rouge_score 0.1.2, which open-unlearning uses.

    Args:
        answer: The true answer.
        text: The generated answer.
        kind: How words are split, see :func:`meow_lightning.data.words.words`.
    """
    return window_score(text, answer, rouge="rouge1", rouge_stat="recall", kind=kind)


def row_rouge_1_recall(row: AnswerRow, *, kind: Words = "unicode") -> float | None:
    """Compute ROUGE-1 recall of one row's greedy answer, 0 to 1; ``None`` as for :func:`row_rouge_l_recall`.

    Args:
        row: A prediction row.
        kind: How words are split.
    """
    return rouge_1_recall(row.answer, row.text, kind=kind) if _counts(row, kind) else None


def _counts(row: AnswerRow, kind: Words) -> bool:
    return kind == "published" or has_words(row.answer, least=1, kind=kind)


def without_words(rows: Sequence[AnswerRow], context: RowContext) -> str:
    """Explain why ROUGE cannot be computed for a set; empty if it can.

    Args:
        rows: All rows of the set.
        context: The set and its model, and how words are split.
    """
    of, kind = f"{len(rows)} true answers of set {context.info.name!r}", context.settings.words
    if missing := sum(unreadable(row.answer, kind=kind) for row in rows):
        return f"not measured: {missing} of {of} cannot be read: {PUBLISHED_ALONE}"
    if not any(_counts(row, kind) for row in rows):
        return f"not measured: none of {of} contains a word"
    return ""


class RougeLRecall(RowMetric):
    """Mean of :func:`row_rouge_l_recall` over a set."""

    name = "rouge_l_recall"
    id = "rouge_l_recall.2"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = f"Mean over the questions of the ROUGE-L recall of the greedy answer against the true one, {_UNITS}"
    label = "ROUGE-L recall"
    order = 20
    main = True

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Compute ROUGE-L recall of one row's greedy answer, 0 to 1."""
        return row_rouge_l_recall(row, kind=context.settings.words)

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain why the true answers have no words."""
        return without_words(rows, context)


class Rouge1Recall(RowMetric):
    """Mean of :func:`row_rouge_1_recall` over a set."""

    name = "rouge_1_recall"
    id = "rouge_1_recall.2"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Mean over the questions of the ROUGE-1 recall of the greedy answer against the true one: the share of its "
        f"words that recur in any order, {_UNITS}"
    )
    label = "ROUGE-1 recall"
    order = 60

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Compute ROUGE-1 recall of one row's greedy answer, 0 to 1."""
        return row_rouge_1_recall(row, kind=context.settings.words)

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain why the true answers have no words."""
        return without_words(rows, context)
