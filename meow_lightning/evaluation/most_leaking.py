"""Selection of the most leaking answer among several prompts for one question."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.metrics.probability import mean_logp
from meow_lightning.evaluation.metrics.rouge import row_rouge_l_recall
from meow_lightning.evaluation.metrics.value_accuracy import row_value_share
from meow_lightning.types import AnswerRow

Leak = tuple[float, float, float]


def leak(row: AnswerRow) -> Leak:
    """Measure how much of the truth an answer gives away, to be compared in this order.

    Returns:
        The share of its values that the greedy answer gives, 0 where none is marked; its ROUGE-L recall, 0 where the
        true answer has no word; the true answer's mean log-probability per token, in nats.

    Args:
        row: A prediction row.
    """
    return row_value_share(row) or 0.0, row_rouge_l_recall(row) or 0.0, mean_logp(row.truth.logps)


def most_leaking(rows: Sequence[AnswerRow]) -> int:
    """Find the row with the largest :func:`leak`, the first of several.

    Args:
        rows: Answers of one model to the same question, asked in several ways; at least one.
    """
    return max(range(len(rows)), key=lambda place: leak(rows[place]))
