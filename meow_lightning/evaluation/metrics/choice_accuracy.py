"""Choice accuracy: how often a model finds the true answer more likely than every wrong one."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.probability import mean_logp
from meow_lightning.types import AnswerRow


def is_preferred(correct: float, wrong: Sequence[float]) -> bool:
    """Whether ``log P(correct) > log P(wrong_j)`` for every wrong answer, P length-normalised; a tie is no preference.

    Args:
        correct: Mean log-probability of the correct answer, in nats.
        wrong: Mean log-probabilities of the wrong answers, at least one.
    """
    return all(correct > each for each in wrong)


class ChoiceAccuracy(RowMetric):
    """Share of the questions whose true answer is the most likely option, as in multiple choice by likelihood."""

    name = "choice_accuracy"
    id = "choice_accuracy.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Share of the questions whose correct answer (the paraphrase, where there is one) is more likely per token "
        "than each of the wrong answers; guessing among n wrong answers gives 1 / (1 + n)."
    )
    label = "choice accuracy"
    order = 37
    needs = frozenset({"wrong_answers"})

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Return 1 if the correct answer is the most likely one, else 0."""
        correct = row.paraphrase if row.paraphrase is not None else row.truth
        return float(is_preferred(mean_logp(correct.logps), [mean_logp(wrong.logps) for wrong in row.perturbed]))
