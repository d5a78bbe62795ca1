"""Value share: how many of a question's values the generated answers give."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.value_accuracy import ValueAccuracy, row_value_share
from meow_lightning.types import AnswerRow


class ValueShare(RowMetric):
    """Mean share of its values that the greedy answer gives, over the rows of a set that mark some."""

    name = "value_share"
    id = "value_share.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Mean over the questions with a marked value of the share of their values that the greedy answer contains, "
        "matched as for value accuracy; where every question has one value, the same as value accuracy."
    )
    label = "value share"
    order = 43
    optional = True

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return the share of the values that the greedy answer gives; ``None`` for a row without a value."""
        return row_value_share(row)

    def missing_reason(self, rows: Sequence[AnswerRow], context: RowContext) -> str:
        """Explain that no row marks a value."""
        return ValueAccuracy().missing_reason(rows, context)
