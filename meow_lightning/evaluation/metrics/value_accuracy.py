"""Value accuracy: share of the generated answers that give the words carrying the fact."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.data.examples import expected_texts
from meow_lightning.data.values.matching import contains_any_value, contains_value, contains_values
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.coverage import Coverage
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow


def row_value_accuracy(row: AnswerRow, *, forgotten: bool) -> float | None:
    """Return 1 if one row's generated text gives its value, else 0; ``None`` for a row without a value.

    Of several values, a fact to keep needs all, and one to forget is said by any: otherwise a model that gives one of
    two secrets away would count as one that forgot.

    Args:
        row: A prediction row.
        forgotten: Whether the row's fact is to be forgotten.
    """
    expected = expected_texts(row)
    gives = contains_any_value if forgotten else contains_values
    return float(gives(row.text, expected)) if expected else None


def row_value_share(row: AnswerRow) -> float | None:
    """Return the share of its values that one row's generated text gives, 0 to 1; ``None`` for a row without a value.

    Args:
        row: A prediction row.
    """
    expected = expected_texts(row)
    return sum(contains_value(row.text, value) for value in expected) / len(expected) if expected else None


class ValueAccuracy(RowMetric):
    """Share of the greedy answers that give the value of their question, over the rows of a set that mark one.

    Of several values, all count together, on sets to forget any (:func:`row_value_accuracy`).
    """

    name = "value_accuracy"
    id = "value_accuracy.4"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Share of the questions with a marked value whose greedy answer contains it as whole words, ignoring case and "
        "the format of dates and long numbers; of several values, all, and one of them for facts to forget."
    )
    label = "value accuracy"
    order = 40
    main = True

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return 1 if the greedy answer gives the value, else 0; ``None`` for a row without a value."""
        return row_value_accuracy(row, forgotten=context.info.purpose == "forget")

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain that no row marks a value."""
        if any(map(expected_texts, rows)):
            return ""
        return f"no question of set {context.info.name!r} marks the words that carry its fact (value)"


class ValueCoverage(Coverage):
    """Number of questions of every set that mark a value, on which value accuracy rests, and number of all."""

    of = ValueAccuracy
    id = "value_coverage.1"
    which = "with a value"
    text = "Number of questions with a marked value, on which value accuracy rests."

    def counts(self, row: AnswerRow) -> bool:
        """Whether a row marks a value."""
        return bool(expected_texts(row))
