"""How far the headline numbers would move with other questions of the same kind: percentile bootstrap intervals."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.forget_quality import DISTANCE_DEFINITION, check_same_questions
from meow_lightning.evaluation.metrics.knowledge import DEFINITION as KNOWN_DEFINITION
from meow_lightning.evaluation.metrics.model_utility import DEFINITION as UTILITY_DEFINITION
from meow_lightning.evaluation.metrics.model_utility import INPUTS
from meow_lightning.evaluation.suite.inputs import Answers, check_roles, collect_answers
from meow_lightning.evaluation.suite.per_set import row_values
from meow_lightning.evaluation.suite.suite import Scores, forget_log_ratios, knowledge_pairs, memo_scores
from meow_lightning.types import AnswerRow

Floats = NDArray[np.float64]

SET_NUMBERS = ("probability", "rouge_l_recall", "truth_ratio", "value_accuracy")
"""The numbers of every set that get an interval."""

MEMO = "memo/answers"

Intervals = dict[str, dict[str, tuple[float, float]]]


def intervals(
    rows: Mapping[str, list[AnswerRow]],
    memo: Mapping[str, Scores],
    *,
    truth_ratio_mean: str,
    protocol: str = "none",
    bootstrap_samples: int,
    confidence_level: float,
    seed: int,
) -> Intervals:
    """(low, high) of the headline numbers by role and name: percentile bootstrap, Efron 1979.

    Each draw takes as many questions from every set as it has, with replacement, the same ones for all numbers and all
    models; low and high are the quantiles ``(1 - confidence_level) / 2`` and ``(1 + confidence_level) / 2`` of the
    number over the draws. So the nine inputs of model utility move together, and forget quality's D compares both
    models on the same questions. D gets the shift of :func:`distance_samples`. A number that
    :func:`~.suite.evaluate` leaves out has no interval.

    Only the choice of questions varies here, not the training: :func:`over_seeds` takes in both.

    Args:
        rows: Answered questions of all sets, by role, as :func:`~.suite.evaluate` takes them.
        memo: MEMO scores by role, likewise.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
        protocol: Whose arithmetic, see :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
        bootstrap_samples: Number B of draws, at least 1; the ends of a 95 % interval want 1,000.
        confidence_level: Share of the draws inside, above 0 and below 1.
        seed: Another seed gives other draws; a set's draws do not depend on which other sets there are.

    Raises:
        UserError: An argument is out of range, or :func:`~.suite.evaluate` would refuse the rows.
    """
    _check(bootstrap_samples, confidence_level)
    every = headline_samples(
        rows, memo, truth_ratio_mean=truth_ratio_mean, protocol=protocol, bootstrap_samples=bootstrap_samples, seed=seed
    )
    return interval_ends(every, confidence_level=confidence_level)


def interval_ends(samples: Mapping[str, Mapping[str, Floats]], *, confidence_level: float) -> Intervals:
    """(low, high) of every number in some draws, by role and name.

    Args:
        samples: As :func:`headline_samples` gives them.
        confidence_level: Share of the draws inside, above 0 and below 1.
    """
    _check(1, confidence_level)
    return {
        role: {name: percentiles(values, confidence_level=confidence_level) for name, values in each.items()}
        for role, each in samples.items()
    }


def headline_samples(
    rows: Mapping[str, list[AnswerRow]], memo: Mapping[str, Scores], *, truth_ratio_mean: str, protocol: str,
    bootstrap_samples: int, seed: int,
) -> dict[str, dict[str, Floats]]:  # fmt: skip
    """The headline numbers in every draw of questions, by role and name, each (draws,); see :func:`intervals`."""
    _check(bootstrap_samples, 0.5)
    answers = collect_answers(rows, truth_ratio_mean=truth_ratio_mean, absent={}, protocol=protocol)
    check_roles(memo)
    resampling = Resampling(bootstrap_samples=bootstrap_samples, seed=seed)
    found: dict[str, dict[str, Floats]] = {}
    for role in dict.fromkeys((*answers.sets, *memo)):
        role_samples = _role_samples(answers, role, resampling)
        if scores := memo_scores(role, memo.get(role), "answer"):
            _add_mean(role_samples, MEMO, scores, resampling.counts("memo", len(scores)))
        # Where hardly any row counts, few draws may take none.
        found[role] = {name: values for name, values in role_samples.items() if np.isfinite(values).any()}
    return found


def over_seeds(samples: Sequence[Floats], *, seed: int) -> Floats:
    """The mean over seeds of a number, in every draw of seeds and of questions: a two-stage bootstrap, (draws,).

    Draw b takes as many seeds as there are, with replacement, and of each seed that it takes one of its draws of
    questions at random (Davison and Hinkley 1997, section 3.8). So the interval of the mean holds what another choice
    of seeds would change, and of questions. Of few seeds it holds too little: a draw of S seeds has on average
    (S - 1) / S of their variance.

    Args:
        samples: By seed, the number in every draw of questions, all equally many; seeds ask questions of their own.
        seed: Another one gives other draws.
    """
    table = np.stack(samples)
    seeds, count = table.shape
    generator = np.random.default_rng([seed, zlib.crc32(b"seeds")])
    picked = generator.integers(seeds, size=(count, seeds))
    return np.asarray(table[picked, generator.integers(count, size=(count, seeds))].mean(axis=1))


@dataclass
class Resampling:
    """How often each draw takes each row of a set; made once for a set and number of rows.

    Attributes:
        bootstrap_samples: Number of draws.
        seed: Seed of all draws.
    """

    bootstrap_samples: int
    seed: int
    _kept: dict[tuple[str, int], Floats] = field(default_factory=dict)

    def counts(self, name: str, rows: int) -> Floats:
        """How often draw b takes row i, (draws, rows); each draw's counts sum to ``rows``.

        Args:
            name: Set that the rows belong to; it has draws of its own.
            rows: Number of rows, at least 1.
        """
        if (name, rows) not in self._kept:
            generator = np.random.default_rng([self.seed, zlib.crc32(name.encode("utf-8"))])
            picks = (
                generator.integers(rows, size=(self.bootstrap_samples, rows))
                + rows * np.arange(self.bootstrap_samples)[:, None]
            )
            counts = np.bincount(picks.ravel(), minlength=self.bootstrap_samples * rows).reshape(
                self.bootstrap_samples, rows
            )
            self._kept[name, rows] = counts.astype(np.float64)
        return self._kept[name, rows]


def mean_samples(values: Sequence[float | None], counts: Floats) -> Floats:
    """The mean of every draw over the rows that count in it, (draws,); not a number where none does.

    Args:
        values: What each row adds; ``None`` where it does not count.
        counts: How often each draw takes each row, (draws, rows).
    """
    counting = np.array([value is not None for value in values], dtype=np.float64)
    known = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
    if counting.all():
        return counts @ known / len(known)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a draw holds no row that counts
        return (counts @ known) / (counts @ counting)


def distance_samples(left: Sequence[float], right: Sequence[float], counts: Floats) -> Floats:
    """Kolmogorov-Smirnov's D between two models in every draw of questions, shifted to D's own size, (draws,).

    D is a largest gap, which resampling noise can only widen: where the true gap is small, all draws lie above the D
    that was measured. So the draws' mean excess is taken off (the bootstrap's own estimate of bias; Efron and
    Tibshirani 1993, chapter 10), and what then lies outside 0 to 1 is cut off. The interval is that of the measured D,
    which is itself too large where the models hardly differ: whether they differ at all is forget quality's question.

    Args:
        left: ``log R`` of one model by question; infinities are allowed.
        right: The other model's, on the same questions.
        counts: How often each draw takes each question, (draws, questions).
    """
    both = np.concatenate([left, right])
    order = np.argsort(both, kind="stable")
    last = np.append(both[order][1:] != both[order][:-1], True)  # of a run of ties only the end is a step

    def largest_gaps(taken: Floats) -> Floats:
        gaps = np.cumsum(np.concatenate([taken, -taken], axis=1)[:, order], axis=1)[:, last]
        return np.asarray(np.abs(gaps).max(axis=1) / len(left))

    role_samples = largest_gaps(counts)
    measured = largest_gaps(np.ones((1, len(left))))[0]
    return np.clip(role_samples - max(0.0, role_samples.mean() - measured), 0.0, 1.0)


def utility_samples(inputs: Sequence[Floats]) -> Floats:
    """Harmonic mean of the inputs in every draw, 0 where one of them is, (draws,).

    Args:
        inputs: The draws of each input, each 0 to 1.
    """
    stacked = np.stack(inputs)
    with np.errstate(divide="ignore"):
        return np.asarray(len(stacked) / (1.0 / stacked).sum(axis=0))


def percentiles(values: Floats, *, confidence_level: float) -> tuple[float, float]:
    """Lower and upper end of the interval that holds the share ``confidence_level`` of the draws, with equal tails.

    Args:
        values: A number in every draw; draws in which there is none are left out.
        confidence_level: Share of the draws inside, above 0 and below 1.
    """
    low, high = np.nanquantile(values, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)


def _check(bootstrap_samples: int, confidence_level: float) -> None:
    if bootstrap_samples < 1 or not 0 < confidence_level < 1:
        raise UserError(
            f"bootstrap_samples={bootstrap_samples}, confidence_level={confidence_level} is invalid: expected at least "
            "1 sample and a level above 0 and below 1, such as 1000 and 0.95"
        )


def _role_samples(answers: Answers, role: str, resampling: Resampling) -> dict[str, Floats]:
    """The draws of every number of a model's answers that can be had."""
    role_samples: dict[str, Floats] = {}
    for name, rows in answers.sets.get(role, {}).items():
        for number in SET_NUMBERS:
            values = row_values(answers, role, f"{name}/{number}")
            if not isinstance(values, str):
                _add_mean(role_samples, f"{name}/{number}", values, resampling.counts(name, len(rows)))
    if all(name in role_samples for name in INPUTS):
        role_samples[UTILITY_DEFINITION.name] = utility_samples([role_samples[name] for name in INPUTS])
    if role == "target" and not answers.missing_reason(role, "forget"):
        _add_knowledge(role_samples, answers, resampling.counts("forget", len(answers.sets[role]["forget"])))
    sides = [forget_log_ratios(answers, side) for side in (role, "retain")]
    left, right = sides
    if not isinstance(left, str) and not isinstance(right, str):
        forget_rows = [answers.sets[side]["forget"] for side in (role, "retain")]
        check_same_questions(*forget_rows, names=(role, "retain"))
        role_samples[DISTANCE_DEFINITION.name] = distance_samples(left, right, resampling.counts("forget", len(left)))
    return role_samples


def _add_knowledge(role_samples: dict[str, Floats], answers: Answers, counts: Floats) -> None:
    """The draws of the target model's gain over who cannot know the facts, both asked the same questions in a draw."""
    gains = []
    for known, other in knowledge_pairs(answers):
        sides: dict[str, Floats] = {}
        for name, values in (("known", known), ("other", other)):
            if not isinstance(values, str):
                _add_mean(sides, name, values, counts)
        if len(sides) == 2:
            with np.errstate(divide="ignore", invalid="ignore"):  # of a draw in which the other one is perfect
                gains.append((sides["known"] - sides["other"]) / (1 - sides["other"]))
    if gains:
        largest = np.max(np.stack(gains), axis=0)
        role_samples[KNOWN_DEFINITION.name] = np.where(np.isfinite(largest), largest, np.nan)


def _add_mean(role_samples: dict[str, Floats], name: str, values: Sequence[float | None], counts: Floats) -> None:
    # a diverged model's numbers are left out of the results, so out of the intervals too
    if np.isfinite([value for value in values if value is not None]).all():
        role_samples[name] = mean_samples(values, counts)
