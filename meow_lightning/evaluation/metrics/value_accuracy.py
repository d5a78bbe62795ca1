"""Value accuracy: share of the generated answers that contain the words carrying the fact."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.words import whole_word_pattern
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow


def has_value(row: AnswerRow) -> bool:
    """Whether the dataset marks which words of this row's answer carry the fact.

    Args:
        row: A prediction row.
    """
    return row.value is not None and bool(row.value.strip())


def contains_value(text: str, value: str) -> bool:
    """Whether ``text`` contains ``value`` as whole words, ignoring case and the amount of whitespace.

    In scripts without spaces between words every position is a word boundary; see
    :func:`meow_lightning.data.words.whole_word_pattern`.

    Args:
        text: The generated answer.
        value: The words that carry the fact; not blank.
    """
    return whole_word_pattern(value, any_blanks=True, any_case=True).search(text) is not None


def row_value_accuracy(row: AnswerRow) -> float | None:
    """Return 1 if one row's generated text contains its value, else 0; ``None`` for a row without a value.

    Args:
        row: A prediction row.
    """
    return float(contains_value(row.text, row.value)) if has_value(row) and row.value is not None else None


class ValueAccuracy(RowMetric):
    """Share of the greedy answers that contain their question's value, over the rows of a set that mark one."""

    name = "value_accuracy"
    id = "value_accuracy.2"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = "Share of the questions with a marked value whose greedy answer contains it as whole words, ignoring case."
    label = "value accuracy"
    order = 40
    main = True

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return 1 if the greedy answer contains the value, else 0; ``None`` for a row without a value."""
        return row_value_accuracy(row)

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain that no row marks a value."""
        if any(map(has_value, rows)):
            return ""
        return f"no question of set {context.info.name!r} marks the words that carry its fact (value)"
