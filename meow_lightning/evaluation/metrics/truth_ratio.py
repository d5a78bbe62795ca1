"""Truth ratio: likelihood of wrong answers relative to the right one (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import cast, get_args

from meow_lightning.errors import UserError, check_choice
from meow_lightning.evaluation.answers import Mean, MetricSettings, RowContext
from meow_lightning.evaluation.coverage import Coverage
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.probability import log_sum_exp, mean_logp
from meow_lightning.types import AnswerRow, Definition, SetInfo


def parse_mean(name: str) -> Mean:
    """Parse ``name`` as a :data:`~meow_lightning.evaluation.answers.Mean`.

    Args:
        name: Value of the option.

    Raises:
        UserError: Unknown mean.
    """
    return cast("Mean", check_choice("truth_ratio_mean", name, get_args(Mean)))


def log_truth_ratio(correct: float, wrong: Sequence[float], *, mean: Mean) -> float:
    """Compute ``log R``, with ``R = mean_j P(wrong_j) / P(correct)`` of one question and P length-normalised.

    TOFU's published numbers and open-unlearning use the geometric mean, ``exp(mean_j log P(wrong_j))``; the paper's
    equation has the arithmetic one. R itself can overflow, its logarithm cannot.

    Args:
        correct: Mean log-probability of the correct answer, in nats.
        wrong: Mean log-probabilities of the wrong answers, at least one.
        mean: How the wrong answers are averaged.

    Raises:
        UserError: ``wrong`` is empty.
    """
    if len(wrong) == 0:
        raise UserError("the truth ratio expects at least 1 wrong answer, given 0: add perturbed answers to the facts")
    if mean == "geometric":
        return statistics.fmean(wrong) - correct
    return log_sum_exp(wrong) - math.log(len(wrong)) - correct


def row_log_truth_ratio(row: AnswerRow, *, mean: Mean) -> float:
    """Compute ``log R`` of one row; the correct answer is the paraphrase if the row has one, else the true answer.

    Args:
        row: A prediction row.
        mean: How the wrong answers are averaged.

    Raises:
        UserError: The row has no wrong answer.
    """
    correct = row.paraphrase if row.paraphrase is not None else row.truth
    return log_truth_ratio(mean_logp(correct.logps), [mean_logp(wrong.logps) for wrong in row.perturbed], mean=mean)


def balance(log_ratio: float) -> float:
    """Compute ``min(R, 1/R)``, 0 to 1: 1 where the model does not distinguish right from wrong answers.

    Args:
        log_ratio: ``log R``.
    """
    return math.exp(-abs(log_ratio))


def preference(log_ratio: float) -> float:
    """Compute ``max(0, 1 - R)``, 0 to 1: the degree to which the model prefers the correct answer.

    Args:
        log_ratio: ``log R``.
    """
    # max(0.0, nan) would be 0.0 and hide an invalid likelihood
    return 0.0 if log_ratio >= 0 else -math.expm1(log_ratio)


def configured_log_truth_ratio(row: AnswerRow, settings: MetricSettings) -> float:
    """Compute ``log R`` of one row with the configured mean, or as the evaluation protocol does.

    Args:
        row: A prediction row with wrong answers.
        settings: How numbers are computed.
    """
    published = settings.formulas.log_truth_ratio
    return row_log_truth_ratio(row, mean=settings.truth_ratio_mean) if published is None else published(row)


def with_mean(definition: Definition, mean: Mean) -> Definition:
    """Extend the definition of a metric that depends on the truth ratio's mean by naming that mean.

    Args:
        definition: Definition of the metric.
        mean: How wrong answers are averaged.
    """
    text = f"{definition.text} The truth ratio uses the {mean} mean."
    return dataclasses.replace(definition, id=f"{definition.id}.{mean}", text=text)


class TruthRatio(RowMetric):
    """Mean of :func:`preference` over a set whose knowledge is to be kept."""

    name = "truth_ratio"
    id = "truth_ratio.1"
    direction = "higher"
    text = "Mean over the questions of max(0, 1 - R), R = mean likelihood of wrong answers / that of the correct one."
    label = "truth ratio"
    order = 30
    main = True
    needs = frozenset({"wrong_answers"})

    def applies(self, info: SetInfo) -> bool:
        """Whether the model should prefer the correct answers."""
        return info.purpose != "forget"

    def definition(self, info: SetInfo, settings: MetricSettings) -> Definition:
        """Define the number of one set, naming the mean."""
        return with_mean(super().definition(info, settings), settings.truth_ratio_mean)

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute ``max(0, 1 - R)`` of one row, 0 to 1."""
        return preference(row_log_truth_ratio(row, mean=context.settings.truth_ratio_mean))


class ForgetTruthRatio(TruthRatio):
    """Mean of :func:`balance` over the forget set, under the name ``truth_ratio``."""

    id = "truth_ratio_forget.1"
    text = "Mean over the questions of min(R, 1/R); 1 if the model does not distinguish correct from wrong answers."

    def applies(self, info: SetInfo) -> bool:
        """Whether the model should not distinguish correct from wrong answers."""
        return info.purpose == "forget"

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute ``min(R, 1/R)`` of one row, 0 to 1."""
        return balance(row_log_truth_ratio(row, mean=context.settings.truth_ratio_mean))


class WrongAnswerCoverage(Coverage):
    """Number of questions with wrong answers, on which the truth ratio of a set rests, and of all, where they differ.

    TOFU's questions all have wrong answers, so that its aggregates have no counts.
    """

    of = TruthRatio
    id = "wrong_answer_coverage.1"
    which = "with wrong answers"
    text = "Number of questions with wrong answers, on which the truth ratio rests."

    def applies(self, info: SetInfo, settings: MetricSettings) -> bool:
        """Whether some questions of a set have no wrong answers."""
        return info.name in settings.partial

    def counts(self, row: AnswerRow) -> bool:
        """Whether a row has wrong answers."""
        return bool(row.perturbed)
