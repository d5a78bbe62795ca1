"""Known/unknown judge of the SlimPLM probe: logistic regression on features of answers.

After "Small Models, Big Insights" (Tan et al. 2024, arXiv 2402.12052), whose judge is a fine-tuned language model. Here
it is a linear one, trained on questions that no number counts, whose being known was measured.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.evaluation.suite.bootstrap import Floats
from meow_lightning.types import Likelihood

ITERATIONS = 10_000  # of L-BFGS at most; standardised features need a few dozen
PACKAGES = ("scikit-learn", "bm25s")


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a model's answers to one question.

    Attributes:
        mean_logp: Mean log-probability of the greedy answer's tokens, end token included, in nats, at most 0.
        min_logp: The smallest of them.
        entropy: Mean entropy of the distributions that these tokens were chosen from, in nats, 0 or more.
        agreement: Mean share of the greedy answer's words that a sampled answer has in the same order (ROUGE-L
            recall), 0 to 1.
    """

    mean_logp: float
    min_logp: float
    entropy: float
    agreement: float


def features(answer: str, likelihood: Likelihood, samples: Sequence[str]) -> Features:
    """Compute the features of a greedy answer.

    Args:
        answer: The greedy answer.
        likelihood: Likelihood of its tokens, at least one.
        samples: Sampled answers to the same question, at least one.
    """
    return Features(
        mean_logp=statistics.fmean(likelihood.logps), min_logp=min(likelihood.logps),
        entropy=-statistics.fmean(likelihood.mean),
        agreement=statistics.fmean(rouge_l_recall(answer, each) for each in samples),
    )  # fmt: skip


def set_aside(questions: Mapping[str, Sequence[str]], *, share: float, seed: int) -> frozenset[str]:
    """Draw the questions that the judge is trained on, from every set its share.

    A question that stands in several sets is set aside in all of them or in none.

    Args:
        questions: The questions by set.
        share: Share of every set, above 0 and below 1, rounded to whole questions.
        seed: Seed of the draw; the rank of a question does not depend on the others.
    """
    drawn: set[str] = set()
    for own in questions.values():
        ranked = sorted(dict.fromkeys(own), key=lambda text: (random.Random(f"{seed}/{text}").random(), text))
        drawn |= {*ranked[: round(share * len(ranked))]}
    return frozenset(drawn)


def probabilities(
    trained: Sequence[Features], known: Sequence[bool], tested: Sequence[Features], *, c: float
) -> list[float]:
    """Train the judge on some questions, and return the probability that each of the others is known.

        p = 1 / (1 + exp(-(w x + b))),   x the features, standardised by the trained questions

    w and b minimise the log-loss plus ``|w|^2 / (2 c)``.

    Args:
        trained: Features of the questions to train on.
        known: Whether each of these is known; both happen.
        tested: Features of the others.
        c: Inverse strength of the L2 penalty, above 0.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if not tested:
        return []
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=ITERATIONS))
    judge.fit(np.array([*map(astuple, trained)]), np.array(known, dtype=np.int64))
    found: list[float] = judge.predict_proba(np.array([*map(astuple, tested)]))[:, 1].tolist()
    return found


def weighted_auc(scores: Sequence[float], positive: Sequence[bool], weights: Floats) -> Floats:
    """Compute the AUROC of weighted questions, (samples,); NaN where a sample has no positive or no negative one.

        sum_{i positive, j negative} w_i w_j ([s_i > s_j] + [s_i = s_j] / 2) / (sum_i w_i sum_j w_j)

    Args:
        scores: Score of every question.
        positive: Whether it should score high.
        weights: Weight of every question in every sample, (samples, questions).
    """
    given, high = np.array(scores, dtype=np.float64), np.array(positive, dtype=bool)
    above, below = given[high][:, None], given[~high][None, :]
    wins = (above > below) + (above == below) / 2
    won = ((weights[:, high] @ wins) * weights[:, ~high]).sum(axis=1)
    pairs = weights[:, high].sum(axis=1) * weights[:, ~high].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(won / pairs)


def weighted_mean(values: Sequence[bool | float], weights: Floats) -> Floats:
    """Average weighted questions, (samples,); NaN where a sample has none.

    Args:
        values: Value of every question.
        weights: Weight of every question in every sample, (samples, questions).
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(weights @ np.array(values, dtype=np.float64) / weights.sum(axis=1))


def weighted_kappa(one: Sequence[bool], other: Sequence[bool], weights: Floats) -> Floats:
    """Compute Cohen's kappa of two verdicts on weighted questions, (samples,); NaN where it is not defined.

        kappa = (a - e) / (1 - e),   a the share of equal verdicts, e = p q + (1 - p) (1 - q)

    with p and q the shares of questions that either calls known: 0 as by chance, 1 always equal (Cohen 1960).

    Args:
        one: Verdicts of one judge.
        other: Verdicts of the other.
        weights: Weight of every question in every sample, (samples, questions).
    """
    equal = weighted_mean([a == b for a, b in zip(one, other, strict=True)], weights)
    p, q = weighted_mean(one, weights), weighted_mean(other, weights)
    chance = p * q + (1 - p) * (1 - q)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = (equal - chance) / (1 - chance)
    return np.where(np.isclose(chance, 1), np.nan, kappa)
