"""Percentile bootstrap intervals of the headline metrics, over resampled questions."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Answers, Scores
from meow_lightning.evaluation.metrics import all_metrics
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.inputs import SideInputs, collect_answers, metric_settings
from meow_lightning.types import AnswerRow, SetInfo

Floats = NDArray[np.float64]

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
    benchmark: Sequence[SetInfo] = BENCHMARK,
) -> Intervals:
    """Compute percentile bootstrap intervals (low, high) of the headline metrics by role and name (Efron 1979).

    Each sample draws, with replacement, as many questions from every set as it has, the same ones for all metrics and
    models; low and high are the quantiles ``(1 - confidence_level) / 2`` and ``(1 + confidence_level) / 2`` of the
    metric over the samples. The nine inputs of model utility therefore move together, and forget quality's D compares
    both models on the same questions. D is shifted as :func:`distance_samples` describes. A metric that
    :func:`~.suite.evaluate` reports as missing has no interval.

    Only the choice of questions varies here, not the training: :func:`over_seeds` covers both.

    Args:
        rows: Prediction rows of all sets, by role, as for :func:`~.suite.evaluate`.
        memo: MEMO scores by role, likewise.
        truth_ratio_mean: ``geometric`` or ``arithmetic``.
        protocol: One of :data:`~meow_lightning.evaluation.protocols.registry.PROTOCOL_NAMES`.
        bootstrap_samples: Number B of samples, at least 1; a 95 % interval needs about 1,000.
        confidence_level: Share of the samples inside the interval, above 0 and below 1.
        seed: Seed of the samples; those of a set do not depend on the other sets.
        benchmark: The evaluation sets, as for :func:`~.suite.evaluate`.

    Raises:
        UserError: An argument is out of range, or :func:`~.suite.evaluate` would reject the rows.
    """
    _check(bootstrap_samples, confidence_level)
    drawn = headline_samples(
        rows, memo, truth_ratio_mean=truth_ratio_mean, protocol=protocol, benchmark=benchmark,
        bootstrap=Bootstrap(bootstrap_samples=bootstrap_samples, seed=seed),
    )  # fmt: skip
    return {role: interval_ends(each, confidence_level=confidence_level) for role, each in drawn.items()}


@dataclass(frozen=True, slots=True)
class HeadlineSamples:
    """Bootstrap samples of one model's headline metrics.

    Attributes:
        drawn: The samples by name, each (samples,).
        unanimous: Number of rows of each share that is 0 in all rows or 1 in all rows, by name.
    """

    drawn: dict[str, Floats]
    unanimous: dict[str, int]

    def joined(self, more: HeadlineSamples) -> HeadlineSamples:
        """Return these samples and those of further metrics of the same model."""
        return HeadlineSamples({**self.drawn, **more.drawn}, {**self.unanimous, **more.unanimous})


def interval_ends(samples: HeadlineSamples, *, confidence_level: float) -> dict[str, tuple[float, float]]:
    """Compute the interval (low, high) of every metric over its bootstrap samples, by name.

    Samples of a share that is 0 in all rows, or 1 in all rows, do not vary: its interval is the exact one of Clopper
    and Pearson (1934), :func:`unanimous_interval`.

    Args:
        samples: Samples of one model, from :func:`headline_samples`.
        confidence_level: Share of the samples inside the interval, above 0 and below 1.
    """
    _check(1, confidence_level)
    return {
        name: unanimous_interval(float(values[0]), samples.unanimous[name], confidence_level=confidence_level)
        if name in samples.unanimous
        else percentiles(values, confidence_level=confidence_level)
        for name, values in samples.drawn.items()
    }


def unanimous_interval(value: float, rows: int, *, confidence_level: float) -> tuple[float, float]:
    """Compute the exact interval of a share that none or all of the rows have (Clopper and Pearson 1934).

    With ``tail = (1 - confidence_level) / 2``: 0 to ``1 - tail ** (1 / rows)`` for none, ``tail ** (1 / rows)`` to 1
    for all. It also holds for the mean of values between 0 and 1: all of them can be 0 with no higher probability.

    Args:
        value: 0 or 1, the value of every row.
        rows: Number of rows, at least 1.
        confidence_level: Above 0 and below 1.
    """
    reached = ((1 - confidence_level) / 2) ** (1 / rows)
    return (reached, 1.0) if value else (0.0, 1 - reached)


def headline_samples(
    rows: Mapping[str, list[AnswerRow]], memo: Mapping[str, Scores], *, truth_ratio_mean: str, protocol: str,
    bootstrap: Bootstrap, benchmark: Sequence[SetInfo] = BENCHMARK, side_inputs: SideInputs | None = None,
) -> dict[str, HeadlineSamples]:  # fmt: skip
    """Draw bootstrap samples of the headline metrics, by role; see :func:`intervals`."""
    settings = metric_settings(truth_ratio_mean=truth_ratio_mean, protocol=protocol)
    answers = collect_answers(
        rows, memo, settings, absent={}, side_inputs=side_inputs or SideInputs(), benchmark=benchmark
    )
    samples: dict[str, HeadlineSamples] = {}
    for role in dict.fromkeys((*answers.sets, *memo)):
        role_samples: dict[str, Floats] = {}
        for metric in all_metrics():
            role_samples |= metric.samples(answers, role, bootstrap, role_samples)
        # if hardly any row counts, none of a few samples may contain one
        drawn = {name: values for name, values in role_samples.items() if np.isfinite(values).any()}
        samples[role] = HeadlineSamples(drawn, _unanimous(answers, role, drawn))
    return samples


def _unanimous(answers: Answers, role: str, drawn: Mapping[str, Floats]) -> dict[str, int]:
    """Count the rows of every share whose rows are all 0 or all 1."""
    constant = {name for name, values in drawn.items() if np.all(values == 0) or np.all(values == 1)}
    counts = {}
    for metric in all_metrics() if constant else ():
        for name, values in metric.share_rows(answers, role, constant).items():
            if not isinstance(values, str) and (rows := unanimous_rows(values)):
                counts[name] = rows
    return counts


def unanimous_rows(values: Sequence[float | None]) -> int:
    """Count the rows of a share that is 0 in all rows that count, or 1 in all of them; 0 if they differ.

    Args:
        values: Contribution of each row, 0 to 1; ``None`` if it does not count.
    """
    counted = [value for value in values if value is not None]
    return len(counted) if set(counted) in ({0}, {1}) else 0


def over_seeds(samples: Sequence[Floats], *, seed: int) -> Floats:
    """Bootstrap a metric's mean over seeds in two stages, resampling seeds and questions, (samples,).

    Sample b draws as many seeds as given, with replacement, and for each drawn seed one of its question samples at
    random (Davison and Hinkley 1997, section 3.8). The interval of the mean thus covers the choice of seeds and of
    questions. With few seeds it is too narrow: a sample of S seeds has on average (S - 1) / S of their variance.

    Args:
        samples: Question samples of the metric by seed, equally many each; every seed resamples its own questions.
        seed: Seed of this bootstrap.
    """
    table = np.stack(samples)
    seeds, count = table.shape
    generator = np.random.default_rng([seed, zlib.crc32(b"seeds")])
    drawn = generator.integers(seeds, size=(count, seeds))
    return np.asarray(table[drawn, generator.integers(count, size=(count, seeds))].mean(axis=1))


@dataclass
class Bootstrap:
    """Samples of every set's rows, and statistics of them; all metrics and models use the same samples of a set.

    Attributes:
        bootstrap_samples: Number of samples.
        seed: Seed of all samples.
    """

    bootstrap_samples: int
    seed: int
    _cache: dict[tuple[str, int], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self.bootstrap_samples, 0.5)

    def counts(self, name: str, rows: int) -> Floats:
        """Count how often sample b contains row i, (samples, rows); each sample's counts sum to ``rows``.

        Args:
            name: Set that the rows belong to; each set has its own draws.
            rows: Number of rows, at least 1.
        """
        if (name, rows) not in self._cache:
            generator = np.random.default_rng([self.seed, zlib.crc32(name.encode("utf-8"))])
            picks = (
                generator.integers(rows, size=(self.bootstrap_samples, rows))
                + rows * np.arange(self.bootstrap_samples)[:, None]
            )
            counts = np.bincount(picks.ravel(), minlength=self.bootstrap_samples * rows).reshape(
                self.bootstrap_samples, rows
            )
            self._cache[name, rows] = counts.astype(np.float64)
        return self._cache[name, rows]

    def means(self, name: str, values: Sequence[float | None]) -> Floats | None:
        """Average the rows of a set in every sample, (samples,); ``None`` if a value is not finite.

        Metrics of a diverged model are missing from the results, so they get no interval either.

        Args:
            name: Set that the rows belong to.
            values: Contribution of each row; ``None`` if it does not count.
        """
        if not np.isfinite([value for value in values if value is not None]).all():
            return None
        return mean_samples(values, self.counts(name, len(values)))

    def distances(self, name: str, left: Sequence[float], right: Sequence[float]) -> Floats:
        """Apply :func:`distance_samples` to the rows of a set.

        Args:
            name: Set that the rows belong to.
            left: ``log R`` of one model by row; infinities are allowed.
            right: ``log R`` of the other model on the same rows.
        """
        return distance_samples(left, right, self.counts(name, len(left)))

    def harmonic_mean(self, inputs: Sequence[Floats]) -> Floats:
        """Compute the harmonic mean of the inputs in every sample, 0 where any input is 0, (samples,).

        Args:
            inputs: Samples of each input, each 0 to 1.
        """
        stacked = np.stack(inputs)
        with np.errstate(divide="ignore"):
            return np.asarray(len(stacked) / (1.0 / stacked).sum(axis=0))


def mean_samples(values: Sequence[float | None], counts: Floats) -> Floats:
    """Average every sample over the rows that count, (samples,); NaN where none does.

    Args:
        values: Contribution of each row; ``None`` if it does not count.
        counts: Multiplicity of each row in each sample, (samples, rows).
    """
    counting = np.array([value is not None for value in values], dtype=np.float64)
    known = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
    if counting.all():
        return counts @ known / len(known)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a sample has no row that counts
        return (counts @ known) / (counts @ counting)


def distance_samples(left: Sequence[float], right: Sequence[float], counts: Floats) -> Floats:
    """Compute the bias-corrected Kolmogorov-Smirnov D of two models in every bootstrap sample, (samples,).

    D is a maximum gap, so resampling noise inflates it: where the true gap is small, all samples lie above the
    measured D. The samples' mean excess is therefore subtracted (the bootstrap estimate of bias; Efron and Tibshirani
    1993, chapter 10), and the result is clipped to 0 to 1. The interval is that of the measured D, which is itself too
    large where the models hardly differ; whether they differ at all is tested by forget quality.

    Args:
        left: ``log R`` of one model by question; infinities are allowed.
        right: ``log R`` of the other model on the same questions.
        counts: Multiplicity of each question in each sample, (samples, questions).
    """
    both = np.concatenate([left, right])
    order = np.argsort(both, kind="stable")
    # Only the end of a run of ties is a step of the empirical distribution.
    last = np.append(both[order][1:] != both[order][:-1], True)

    def largest_gaps(multiplicity: Floats) -> Floats:
        gaps = np.cumsum(np.concatenate([multiplicity, -multiplicity], axis=1)[:, order], axis=1)[:, last]
        return np.asarray(np.abs(gaps).max(axis=1) / len(left))

    distances = largest_gaps(counts)
    measured = largest_gaps(np.ones((1, len(left))))[0]
    return np.clip(distances - max(0.0, distances.mean() - measured), 0.0, 1.0)


def percentiles(values: Floats, *, confidence_level: float) -> tuple[float, float]:
    """Compute the equal-tailed interval that contains the share ``confidence_level`` of the samples.

    Args:
        values: Samples of a metric; NaN samples are left out.
        confidence_level: Share of the samples inside the interval, above 0 and below 1.
    """
    low, high = np.nanquantile(values, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)


def _check(bootstrap_samples: int, confidence_level: float) -> None:
    if bootstrap_samples < 1 or not 0 < confidence_level < 1:
        raise UserError(
            f"bootstrap_samples={bootstrap_samples}, confidence_level={confidence_level} is invalid: expected an "
            "integer of at least 1 and a number above 0 and below 1, such as 1000 and 0.95"
        )
