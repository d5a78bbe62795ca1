"""Length-normalised likelihood of an answer, alone or among options (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow, SetInfo


def mean_logp(logps: Sequence[float]) -> float:
    """Compute the length-normalised log-likelihood of one answer, ``sum_t logps[t] / T`` in nats, with the end token.

    Args:
        logps: log p(token | earlier tokens) of the T scored tokens, each at most 0.

    Raises:
        UserError: No token is scored.
    """
    if len(logps) == 0:
        raise UserError(
            "expected an answer of at least 1 scored token (the end token), given 0: run the stage `predict` again"
        )
    return statistics.fmean(logps)


def log_sum_exp(terms: Sequence[float]) -> float:
    """Compute ``log sum_i exp(terms[i])`` without overflow; minus infinity if every term is.

    Args:
        terms: At least one log-probability, in nats.
    """
    largest = max(terms)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum(math.exp(term - largest) for term in terms))


def probability(logps: Sequence[float]) -> float:
    """Compute the length-normalised probability ``P(a|q) = exp(mean_t logps[t])``, 0 to 1.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
    """
    return math.exp(mean_logp(logps))


def option_probability(correct: float, wrong: Sequence[float]) -> float:
    """Compute ``P(a) / (P(a) + sum_j P(wrong_j))`` of one question, 0 to 1, with ``P = exp(mean log-probability)``.

    Args:
        correct: Mean log-probability of the true answer, in nats.
        wrong: Mean log-probabilities of the wrong answers, at least one.

    Raises:
        UserError: ``wrong`` is empty.
    """
    if len(wrong) == 0:
        raise UserError("option probability expects at least 1 wrong answer, given 0: use probability instead")
    return math.exp(correct - log_sum_exp([correct, *wrong]))


def row_normalised_probability(row: AnswerRow) -> float:
    """Compute the probability of one row's true answer among its options, 0 to 1.

    The true answer is compared even where a paraphrase exists: with the paraphrase this would be the truth ratio in
    another form. On sets with a paraphrase the wrong answers share its phrasing, so training favours the true answer.

    Args:
        row: A prediction row.

    Raises:
        UserError: The row has no wrong answer.
    """
    wrong = [mean_logp(likelihood.logps) for likelihood in row.perturbed]
    return option_probability(mean_logp(row.truth.logps), wrong)


class Probability(RowMetric):
    """Mean of :func:`probability` over the true answers of a set without options."""

    name = "probability"
    id = "probability.1"
    unit = "probability"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = "Mean over the questions of exp(mean log-probability of the true answer's tokens, end token included)."
    label = "probability of the true answer"
    order = 10
    main = True

    def applies(self, info: SetInfo) -> bool:
        """Whether the true answer is scored alone."""
        return info.scoring != "options"

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute the probability of one row's true answer, 0 to 1."""
        return probability(row.truth.logps)


class OptionProbability(RowMetric):
    """Mean of :func:`row_normalised_probability` over a set with options, under the name ``probability``.

    There the answer competes with wrong options, since facts of pre-training have many correct phrasings.
    """

    name = "probability"
    id = "probability_options.1"
    unit = "probability"
    direction = "higher"
    text = "Mean over the questions of P(answer) / (P(answer) + sum of P(wrong answer)), P length-normalised."
    label = "probability of the true answer"
    order = 10
    main = True
    needs = frozenset({"wrong_answers"})

    def applies(self, info: SetInfo) -> bool:
        """Whether the true answer is scored against the wrong ones."""
        return info.scoring == "options"

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute the probability of one row's true answer among its options, 0 to 1."""
        return row_normalised_probability(row)


class NormalisedProbability(RowMetric):
    """Mean of :func:`row_normalised_probability` over a set whose ``probability`` is that of the answer alone."""

    name = "normalised_probability"
    id = "normalised_probability.1"
    unit = "probability"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Mean over the questions of P(answer) / (P(answer) + sum of P(wrong answer)), P length-normalised, where "
        "`probability` is that of the answer alone."
    )
    label = "probability against the wrong answers"
    order = 50
    needs = frozenset({"wrong_answers"})

    def applies(self, info: SetInfo) -> bool:
        """Whether the true answer is scored alone elsewhere."""
        return info.scoring != "options"

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute the probability of one row's true answer among its options, 0 to 1."""
        return row_normalised_probability(row)
