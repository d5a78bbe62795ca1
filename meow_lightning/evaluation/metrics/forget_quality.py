"""Forget quality: KS test of the unlearned against the retain model (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meow_lightning.errors import UserError
from meow_lightning.types import AnswerRow, Definition

SIGNIFICANCE = 0.05
"""Significance level: at p at or above it a model is indistinguishable from the retain model (TOFU, 2401.06121)."""

# Below this a double becomes subnormal, loses digits and then underflows to 0, which has no logarithm.
_SMALLEST_P = 1e-300

DEFINITION = Definition(
    name="forget_quality",
    id="forget_quality.1",
    unit="p-value",
    direction="higher",
    text="p of the two-sided Kolmogorov-Smirnov test: truth ratios of this and of the retain model on the forget set.",
)

LOG10_DEFINITION = Definition(
    name="forget_quality_log10",
    id="forget_quality_log10.1",
    unit="log10 of a p-value",
    direction="higher",
    text="Base-10 logarithm of forget quality; its minimum, at distance 1, depends only on the number of questions.",
)

DISTANCE_DEFINITION = Definition(
    name="forget_quality_distance",
    id="forget_quality_distance.1",
    unit="share",
    direction="lower",
    text="Largest gap between the two distributions of truth ratios; unlike p, comparable across numbers of questions.",
)

ROWS_DEFINITION = Definition(
    name="forget_quality_rows",
    id="forget_quality_rows.1",
    unit="questions",
    direction="none",
    text="Number of questions that forget quality compares.",
)


@dataclass(frozen=True, slots=True)
class ForgetQuality:
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


def forget_quality(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> ForgetQuality:
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


def unpaired_forget_quality(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> ForgetQuality:
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


def _compare(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> ForgetQuality:
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
    return ForgetQuality(distance=distance, p=p, log10_p=log10_p, rows=rows, rows_retain=rows_retain)


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
