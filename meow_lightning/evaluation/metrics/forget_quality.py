"""Forget quality: KS test of the unlearned against the retain model (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Answers, Mean, MetricSettings
from meow_lightning.evaluation.metric import Outcome, RunMetric
from meow_lightning.evaluation.metrics.truth_ratio import configured_log_truth_ratio, row_log_truth_ratio, with_mean
from meow_lightning.types import AnswerRow, Definition, SetInfo

if TYPE_CHECKING:
    from torchmetrics import Metric as TorchMetric

    from meow_lightning.evaluation.suite.bootstrap import Bootstrap, Floats

SIGNIFICANCE = 0.05
"""Significance level: at p at or above it a model is indistinguishable from the retain model (TOFU, 2401.06121)."""

# Below this a double becomes subnormal, loses digits and then underflows to 0, which has no logarithm.
_SMALLEST_P = 1e-300


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of the Kolmogorov-Smirnov test between two models' truth ratios.

    Attributes:
        distance: Kolmogorov-Smirnov statistic D, 0 (same) to 1 (all separated).
        p: Probability of a distance at least as large under a common distribution.
        log10_p: Its base-10 logarithm, finite also where ``p`` is too small for a double.
        rows: Questions of the evaluated model.
        rows_retain: Questions of the retain model: the same number, unless the comparison is unpaired.
    """

    distance: float
    p: float
    log10_p: float
    rows: int
    rows_retain: int


def check_same_questions(left: Sequence[AnswerRow], right: Sequence[AnswerRow], *, names: tuple[str, str]) -> None:
    """Check that both models answered the same questions in the same order.

    Args:
        left: Rows of one model.
        right: Rows of the other.
        names: Names of the two for the error, e.g. ``("unlearned", "retain")``.

    Raises:
        UserError: The questions differ.
    """
    first, second = names
    remedy = "expected the same ones in the same order: predict both with the same dataset and split"
    if len(left) != len(right):
        raise UserError(f"the {first} model has {len(left)} questions, the {second} model has {len(right)}; {remedy}")
    for position, (one, other) in enumerate(zip(left, right, strict=True)):
        if (one.question, one.answer) != (other.question, other.answer):
            raise UserError(
                f"question {position} differs: the {first} model has fact {one.fact!r}, "
                f"the {second} model has fact {other.fact!r}, with another question or true answer; {remedy}"
            )


def forget_quality(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> Comparison:
    """Run the two-sided two-sample Kolmogorov-Smirnov test between the per-question truth ratios of two models.

    ``D = sup_x |F(x) - G(x)|`` with the empirical distributions F and G; p is exact up to 10,000 questions. Logarithms
    of the ratios give the same D and p as the ratios, since D depends only on their order.

    Args:
        log_ratios: ``log R`` of the evaluated model on each question of the forget set; infinities are allowed.
        retain_log_ratios: ``log R`` of the retain model on the same questions.

    Raises:
        UserError: The lengths differ, both are empty, or a ratio is NaN.
    """
    rows = len(log_ratios)
    if rows != len(retain_log_ratios) or rows == 0:
        raise UserError(
            f"forget quality got {rows} truth ratios of the evaluated model and {len(retain_log_ratios)} of the retain "
            "model: expected the same number, at least 1; predict both on the same forget set"
        )
    return _compare(log_ratios, retain_log_ratios)


def unpaired_forget_quality(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> Comparison:
    """Run the test of :func:`forget_quality` on truth ratios of different questions, in equal or different number.

    Here the questions differ as well as the models, so p has another meaning; for equal numbers both functions agree.

    Args:
        log_ratios: ``log R`` of the evaluated model on each of its questions; infinities are allowed.
        retain_log_ratios: ``log R`` of the retain model on each of its own.

    Raises:
        UserError: One side is empty, or a ratio is NaN.
    """
    if not (len(log_ratios) and len(retain_log_ratios)):
        raise UserError(
            f"unpaired forget quality got {len(log_ratios)} truth ratios of the evaluated model and "
            f"{len(retain_log_ratios)} of the retain model: expected at least 1 of each; predict both on a forget set"
        )
    return _compare(log_ratios, retain_log_ratios)


def forget_log_ratios(answers: Answers, role: str) -> list[float] | str:
    """Compute ``log R`` of one model on every forget question, or the reason why it cannot be compared.

    Args:
        answers: Answers of all models.
        role: Role of the model.
    """
    forget = answers.of_purpose("forget")
    if reason := answers.missing_reason(role, forget):
        return f"not measured: {reason}"
    rows = answers.sets[role][forget]
    if not all(row.perturbed for row in rows):
        return f"not measured: the {role} model's predictions on the forget set have no wrong (perturbed) answers"
    ratios = [configured_log_truth_ratio(row, answers.settings) for row in rows]
    if invalid := sum(map(math.isnan, ratios)):
        reason = f"{invalid} of {len(rows)} truth ratios of the {role} model are NaN"
        return f"not measured: {reason}; did training diverge?"
    return ratios


class ForgetQuality(RunMetric):
    """:func:`forget_quality` of a model: p, log10 p, distance and number of questions."""

    distance = "forget_quality_distance"
    names = ("forget_quality_log10", "forget_quality", distance, "forget_quality_rows")

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the four numbers, naming the mean of the truth ratio."""
        log10, p, distance, rows = self.names
        compared = (
            Definition(
                name=log10, id="forget_quality_log10.1", unit="log10 of a p-value", direction="higher", order=10,
                text="Base-10 logarithm of forget quality; its minimum, at distance 1, depends only on the number of "
                "questions.", label="forget quality (log10 p)", main=True,
            ),
            Definition(
                name=p, id="forget_quality.1", unit="p-value", direction="higher", order=20,
                text="p of the two-sided Kolmogorov-Smirnov test: truth ratios of this and of the retain model on the "
                "forget set.", label="forget quality (p)", main=True,
            ),
            Definition(
                name=distance, id="forget_quality_distance.1", unit="share", direction="lower", order=30,
                text="Largest gap between the two distributions of truth ratios; unlike p, comparable across numbers "
                "of questions.", label="KS distance to the retain model", main=True,
            ),
        )  # fmt: skip
        counted = Definition(
            name=rows, id="forget_quality_rows.1", unit="questions", direction="none", order=40,
            text="Number of questions that forget quality compares.", label="questions in that test", main=True,
        )  # fmt: skip
        return [*(with_mean(definition, settings.truth_ratio_mean) for definition in compared), counted]

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compare one model's truth ratios with those of the retain model.

        Raises:
            UserError: The two models answered different questions.
        """
        ratios = _both_ratios(answers, role)
        if isinstance(ratios, str):
            return dict.fromkeys(self.names, ratios)
        result = forget_quality(*ratios)
        return dict(zip(self.names, (result.log10_p, result.p, result.distance, float(result.rows)), strict=True))

    def samples(
        self, answers: Answers, role: str, bootstrap: Bootstrap, drawn: Mapping[str, Floats]
    ) -> dict[str, Floats]:
        """Compute the distance on the same questions of both models in each bootstrap sample."""
        ratios = _both_ratios(answers, role)
        if isinstance(ratios, str):
            return {}
        return {self.distance: bootstrap.distances(answers.of_purpose("forget"), *ratios)}

    def torchmetric(self, *, retain: Sequence[AnswerRow], mean: Mean) -> TorchMetric:
        """Build the metric as a torchmetrics class: ``p``, ``log10_p``, ``distance`` and ``rows``.

        Args:
            retain: All forget-set rows of the retain model, in order, the same on every process.
            mean: How the wrong answers are averaged.
        """
        from meow_lightning.evaluation.torchmetric import RowValues

        def log_ratios(rows: Sequence[AnswerRow]) -> list[float]:
            known = [retain[row.index] for row in rows if row.index < len(retain)]
            check_same_questions(rows, known, names=("evaluated", "retain"))
            return [row_log_truth_ratio(row, mean=mean) for row in rows]

        def numbers(index: list[int], ratios: list[float]) -> Mapping[str, float]:
            if sorted(index) != list(range(len(retain))):
                raise UserError(
                    f"{len(index)} rows of {len(set(index))} questions were added, the retain model has {len(retain)} "
                    "questions: expected each once; do not pad or drop rows between processes"
                )
            others = [row_log_truth_ratio(retain[position], mean=mean) for position in index]
            result = forget_quality(ratios, others)
            return {"p": result.p, "log10_p": result.log10_p, "distance": result.distance, "rows": float(result.rows)}

        return RowValues(log_ratios, numbers)


def _both_ratios(answers: Answers, role: str) -> tuple[list[float], list[float]] | str:
    """Compute ``log R`` of one model and of the retain model, or the reason why they cannot be compared."""
    own = forget_log_ratios(answers, role)
    if isinstance(own, str):
        return own
    retain = forget_log_ratios(answers, "retain")
    if isinstance(retain, str):
        return retain
    forget = answers.of_purpose("forget")
    check_same_questions(*(answers.sets[side][forget] for side in (role, "retain")), names=(role, "retain"))
    return own, retain


def _compare(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> Comparison:
    invalid = [sum(map(math.isnan, side)) for side in (log_ratios, retain_log_ratios)]
    if any(invalid):
        raise UserError(
            f"{invalid[0]} truth ratios of the evaluated model and {invalid[1]} of the retain model are NaN: check "
            "whether training diverged"
        )
    from scipy.stats import ks_2samp  # slow import (about a second), needed only here

    result = ks_2samp(log_ratios, retain_log_ratios)
    distance, p = float(result.statistic), float(result.pvalue)
    rows, rows_retain = len(log_ratios), len(retain_log_ratios)
    if p >= _SMALLEST_P:
        log10_p = math.log10(p)
    elif rows == rows_retain:
        log10_p = _leading_log10_p(round(distance * rows), rows)
    else:
        log10_p = _counted_log10_p(round(distance * rows * rows_retain), rows, rows_retain)
    return Comparison(distance=distance, p=p, log10_p=log10_p, rows=rows, rows_retain=rows_retain)


def _leading_log10_p(steps: int, rows: int) -> float:
    """Compute ``log10(2 C(2n, n-h) / C(2n, n))`` for n = ``rows`` and D = h/n, h = ``steps``.

    This is the leading term of the alternating series of the exact p; where p is tiny, the others are below rounding.
    """
    return math.log10(2 * math.comb(2 * rows, rows - steps)) - math.log10(math.comb(2 * rows, rows))


def _counted_log10_p(steps: int, rows: int, rows_retain: int) -> float:
    """Compute the exact ``log10 p`` for numbers m = ``rows`` and n = ``rows_retain``, with D = ``steps / (m n)``.

    An ordering of both samples is a lattice path from (0, 0) to (m, n); p is the share of the C(m + n, n) paths that
    meet a point with ``|i n - j m| >= steps``. Their number N obeys ``N(i, j) = N(i - 1, j) + N(i, j - 1)`` between
    those points and is C(i + j, i) on them. All terms are positive, so log space is accurate; row by row this takes
    O(m n) time and O(n) memory.
    """
    import numpy as np
    from scipy.special import gammaln

    log_factorial = gammaln(np.arange(rows + rows_retain + 1) + 1.0)
    j = np.arange(rows_retain + 1)
    # no path precedes the first row
    paths = np.full(rows_retain + 1, -np.inf)
    for i in range(rows + 1):
        all_paths = log_factorial[i : i + rows_retain + 1] - log_factorial[i] - log_factorial[j]
        between = np.flatnonzero(np.abs(i * rows_retain - j * rows) < steps)
        start, end = (between[0], between[-1] + 1) if len(between) else (0, 0)
        left = all_paths[start - 1] if start else -np.inf
        inside = np.logaddexp.accumulate(np.concatenate(([left], paths[start:end])))[1:]
        paths = np.concatenate((all_paths[:start], inside, all_paths[end:]))
    return float(paths[-1] - all_paths[-1]) / math.log(10)
