"""Truth ratio as a probability: likelihood of the right answer among the right and the wrong ones (``prob_mean``)."""

from __future__ import annotations

import math

from meow_lightning.evaluation.answers import MetricSettings, RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.truth_ratio import row_log_truth_ratio, with_mean
from meow_lightning.types import AnswerRow, Definition, SetInfo


def truth_probability(log_ratio: float) -> float:
    """Compute ``1 / (1 + R) = P(correct) / (P(correct) + mean_j P(wrong_j))``, 0 to 1, .5 where both are as likely.

    Source: the aggregator ``prob_mean`` of open-unlearning's truth ratio, whose authors measure the extent of knowledge
    with it (arXiv 2506.12618).

    Args:
        log_ratio: ``log R``, R the truth ratio.
    """
    if log_ratio > 0:  # exp would overflow where the correct answer is all but impossible
        return math.exp(-log_ratio) / (1 + math.exp(-log_ratio))
    return 1 / (1 + math.exp(log_ratio))


class TruthProbability(RowMetric):
    """Mean of :func:`truth_probability` over a set."""

    name = "truth_probability"
    id = "truth_probability.1"
    unit = "probability"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = "Mean over the questions of 1 / (1 + R), R = mean likelihood of wrong answers / that of the correct one."
    label = "truth probability"
    order = 35
    needs = frozenset({"wrong_answers"})
    optional = True

    def applies(self, info: SetInfo) -> bool:
        """Whether the set has wrong answers."""
        return info.purpose != "holdout"

    def definition(self, info: SetInfo, settings: MetricSettings) -> Definition:
        """Define the number of one set, naming the mean."""
        return with_mean(super().definition(info, settings), settings.truth_ratio_mean)

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute the truth probability of one row, 0 to 1."""
        return truth_probability(row_log_truth_ratio(row, mean=context.settings.truth_ratio_mean))
