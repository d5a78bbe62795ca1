"""Value accuracy: share of the generated answers that contain the words carrying the fact."""

from __future__ import annotations

from collections.abc import Iterable

from meow_lightning.data.words import whole_word_pattern
from meow_lightning.types import AnswerRow, Definition

DEFINITION = Definition(
    name="value_accuracy",
    id="value_accuracy.2",
    unit="share",
    direction="higher",
    text="Share of the questions with a marked value whose greedy answer contains it as whole words, ignoring case.",
)


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


def value_accuracy(rows: Iterable[AnswerRow]) -> float | None:
    """Compute the share of the rows with a value whose generated text contains it; ``None`` if no row has a value.

    Args:
        rows: Prediction rows.
    """
    hits = [hit for row in rows if (hit := row_value_accuracy(row)) is not None]
    return sum(hits) / len(hits) if hits else None
