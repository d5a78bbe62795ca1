"""Per-row metrics that open-unlearning computes differently (locuslab/open-unlearning, src/evals/metrics).

P is the length-normalised likelihood. The constant 1e-10 matters for collapsed models, whose P(correct) is far
smaller.
"""

from __future__ import annotations

import dataclasses
import math

from meow_lightning.evaluation.answers import Formulas
from meow_lightning.evaluation.metrics.exact_memorisation import exact_memorisation
from meow_lightning.evaluation.metrics.extraction_strength import extraction_strength
from meow_lightning.evaluation.metrics.membership import Attack
from meow_lightning.evaluation.metrics.probability import log_sum_exp, mean_logp, probability
from meow_lightning.types import AnswerRow, Likelihood, SetInfo

EPSILON = 1e-10
NO_RETAIN_AUC = 0.5
"""AUC of an attack on the retain model, assumed if there is no retain model."""


def row_log_truth_ratio(row: AnswerRow) -> float:
    """Compute ``log R``, ``R = exp(mean_j log P(wrong_j)) / (P(correct) + 1e-10)``.

    Args:
        row: A prediction row with wrong answers.
    """
    correct = row.paraphrase if row.paraphrase is not None else row.truth
    wrong = math.fsum(mean_logp(answer.logps) for answer in row.perturbed) / len(row.perturbed)
    return wrong - log_sum_exp([mean_logp(correct.logps), math.log(EPSILON)])


def row_truth_ratio(row: AnswerRow, info: SetInfo) -> float:
    """Compute ``min(R, 1 / (R + 1e-10))`` on the forget set, ``max(0, 1 - R)`` elsewhere.

    Args:
        row: A prediction row with wrong answers.
        info: Its set.
    """
    ratio = math.exp(min(row_log_truth_ratio(row), 700.0))  # exp overflows beyond this, and 1 / R is 0 anyway
    return min(ratio, 1 / (ratio + EPSILON)) if info.purpose == "forget" else max(0.0, 1 - ratio)


def row_truth_probability(row: AnswerRow, info: SetInfo) -> float:
    """Compute ``P(correct) / (P(correct) + exp(mean_j log P(wrong_j)) + 1e-10)``.

    Args:
        row: A prediction row with wrong answers.
        info: Its set.
    """
    correct = mean_logp((row.paraphrase if row.paraphrase is not None else row.truth).logps)
    wrong = math.fsum(mean_logp(answer.logps) for answer in row.perturbed) / len(row.perturbed)
    return math.exp(correct - log_sum_exp([correct, wrong, math.log(EPSILON)]))


def row_probability(row: AnswerRow, info: SetInfo) -> float:
    """Compute ``P(answer) / (P(answer) + sum_j P(wrong_j) + 1e-10)`` for sets with options, else ``P(answer)``.

    Args:
        row: A prediction row.
        info: Its set.
    """
    if info.scoring != "options":
        return probability(row.truth.logps)
    options = [mean_logp(answer.logps) for answer in (row.truth, *row.perturbed)]
    return math.exp(options[0] - log_sum_exp([*options, math.log(EPSILON)]))


def row_exact_memorisation(row: AnswerRow, info: SetInfo) -> float | None:
    """Compute the share of the true answer's tokens that are the argmax; ``None`` if only the end token is scored.

    The last scored token, the end token, is left out.

    Args:
        row: A prediction row with per-token likelihoods.
        info: Its set.
    """
    return exact_memorisation(row.truth.hits) if len(row.truth.hits) > 1 else None


def row_extraction_strength(row: AnswerRow, info: SetInfo) -> float:
    """Compute extraction strength; ``1 / T`` if nothing matches, 0 if only the end token is scored.

    The published loop over k = 0 .. T - 1 stops at T - 1 whether or not the last token matches. T excludes the last
    scored token, the end token.

    Args:
        row: A prediction row with per-token likelihoods.
        info: Its set.
    """
    counted = len(row.truth.hits) - 1
    return max(extraction_strength(row.truth.hits), 1 / counted) if counted else 0.0


def attack_score(attack: Attack, row: AnswerRow) -> float:
    """Compute the score of an attack on one row.

    Token-level attacks skip the end token and give 0 if nothing else is scored. Text-level attacks use the text of the
    scored tokens, which may end with a template's line break.

    Args:
        attack: An attack that needs no retain model.
        row: A prediction row with the likelihoods that the attack needs.
    """
    if attack.score is None:
        raise ValueError(f"the attack {attack.name} needs the retain model's row")
    if "tokens" not in attack.needs:
        return attack.score(row if row.scored_text is None else dataclasses.replace(row, answer=row.scored_text))
    truth = Likelihood(**{field.name: getattr(row.truth, field.name)[:-1] for field in dataclasses.fields(row.truth)})
    return attack.score(dataclasses.replace(row, truth=truth)) if truth.logps else 0.0


FORMULAS = Formulas(
    row_values={
        "probability": row_probability,
        "truth_ratio": row_truth_ratio,
        "truth_probability": row_truth_probability,
        "exact_memorisation": row_exact_memorisation,
        "extraction_strength": row_extraction_strength,
    },
    log_truth_ratio=row_log_truth_ratio,
    attack_score=attack_score,
    retain_auc=NO_RETAIN_AUC,
    skips_short_answers=True,
)
"""All formulas that differ."""
