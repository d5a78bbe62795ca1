"""Can the unlearned model be told from one that never saw the forget set (TOFU, Maini et al. 2024, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meow_lightning.types import AnswerRow, Definition, UserError

# below this a double loses digits and then turns into 0, whose logarithm says nothing
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
    text="Base-10 logarithm of forget quality; its floor, at distance 1, depends on the number of questions alone.",
)

DISTANCE_DEFINITION = Definition(
    name="forget_quality_distance",
    id="forget_quality_distance.1",
    unit="share",
    direction="lower",
    text="Largest gap between the two distributions of truth ratios; unlike p comparable between numbers of questions.",
)

ROWS_DEFINITION = Definition(
    name="forget_quality_rows",
    id="forget_quality_rows.1",
    unit="questions",
    direction="none",
    text="Questions that forget quality compares on.",
)


@dataclass(frozen=True, slots=True)
class ForgetQuality:
    """How far two models' truth ratios on the same questions lie apart.

    Attributes:
        distance: Kolmogorov-Smirnov statistic D, 0 (same) to 1 (all separated).
        p: Chance of a distance at least as large if both came from one distribution.
        log10_p: Its base-10 logarithm, finite also where ``p`` is too small for a double.
        rows: Questions per model.
    """

    distance: float
    p: float
    log10_p: float
    rows: int


def check_same_questions(left: Sequence[AnswerRow], right: Sequence[AnswerRow], *, names: tuple[str, str]) -> None:
    """Nothing, if both sides answered the same questions in the same order.

    Args:
        left: Rows of one model.
        right: Rows of the other.
        names: What to call the two in the error, e.g. ``("unlearned", "retain")``.

    Raises:
        UserError: They did not.
    """
    first, second = names
    remedy = "forget quality needs the same ones in the same order: answer both with the same dataset and split"
    if len(left) != len(right):
        raise UserError(f"the {first} model has {len(left)} questions, the {second} model {len(right)}; {remedy}")
    for position, (one, other) in enumerate(zip(left, right, strict=True)):
        if (one.question, one.answer) != (other.question, other.answer):
            raise UserError(
                f"question {position} differs: the {first} model has fact {one.fact!r}, "
                f"the {second} model fact {other.fact!r}, with another question or true answer; {remedy}"
            )


def forget_quality(log_ratios: Sequence[float], retain_log_ratios: Sequence[float]) -> ForgetQuality:
    """Two-sided two-sample Kolmogorov-Smirnov test between the per-question truth ratios of two models.

    ``D = sup_x |F(x) - G(x)|`` with the empirical distributions F and G; p is exact up to 10,000 questions. Logarithms
    of the ratios give the same D and p as the ratios, since D depends on their order alone.

    Args:
        log_ratios: ``log R`` of the evaluated model on each question of the forget set; infinities are allowed.
        retain_log_ratios: The same of the model that never saw the forget set.

    Raises:
        UserError: The two have different lengths, none at all, or a ratio is not a number.
    """
    rows = len(log_ratios)
    if rows != len(retain_log_ratios) or rows == 0:
        raise UserError(
            f"forget quality was given {rows} truth ratios of the evaluated model and {len(retain_log_ratios)} of the "
            "retain model; it needs the same number, at least 1: answer the same forget set with both"
        )
    broken = [sum(math.isnan(ratio) for ratio in side) for side in (log_ratios, retain_log_ratios)]
    if any(broken):
        raise UserError(
            f"{broken[0]} truth ratios of the evaluated model and {broken[1]} of the retain model are not numbers; "
            "forget quality needs all: look for a training run that diverged"
        )
    from scipy.stats import ks_2samp  # takes most of a second, and only this function needs it

    result = ks_2samp(log_ratios, retain_log_ratios)
    distance, p = float(result.statistic), float(result.pvalue)
    log10_p = math.log10(p) if p >= _SMALLEST_P else _leading_log10_p(round(distance * rows), rows)
    return ForgetQuality(distance=distance, p=p, log10_p=log10_p, rows=rows)


def _leading_log10_p(steps: int, rows: int) -> float:
    """``log10(2 C(2n, n-h) / C(2n, n))`` for n = ``rows`` and D = h/n, h = ``steps``.

    It leads the alternating series of the exact p, and where p is tiny the rest of that series is below rounding.
    """
    return math.log10(2 * math.comb(2 * rows, rows - steps)) - math.log10(math.comb(2 * rows, rows))
