"""Limits of a run's numbers, in words: what they do not show."""

from __future__ import annotations

import math

from meow_lightning.evaluation.metrics.forget_quality import SIGNIFICANCE
from meow_lightning.report.data import number
from meow_lightning.types import Results


def limits(results: Results) -> list[str]:
    """List caveats for readers, general ones first."""
    questions = number(results, "unlearned", "forget_quality_rows")
    limit = critical_distance(questions or 0.0)
    power = f" With {questions:.0f} questions, distances below about {limit:.2f} go undetected." if limit else ""
    found = [
        f"The absence of a difference is not a proof of forgetting: p ≥ {SIGNIFICANCE} only says that this test did "
        f"not find one.{power} Differences between values of p above the threshold should not be read.",
        "The truth ratio compares the rephrased true answer with wrong answers that were never trained on. It does not "
        "look at the answers that unlearning trained on.",
        "Forget quality alone does not rank methods: a ruined model can reach it too. Read it together with "
        "the retain set's numbers.",
        "One run with one seed. "
        + (
            "Other attacks and other wordings may still extract the facts."
            if results.conditions
            else "Nothing here tests whether the facts can be extracted by other wordings, by an attack, or by a "
            "little further training."
        ),
    ]
    rouge, value = (number(results, "unlearned", f"forget/{part}") for part in ("rouge_l_recall", "value_accuracy"))
    if rouge is not None and value is not None and rouge > value + 0.3:
        found.append(
            f"Forget ROUGE-L stays at {rouge:.2f} although only {value:.0%} of the answers state the true value: the "
            "answers share most of their words with the true ones. Rely on value accuracy."
        )
    return found


def critical_distance(questions: float) -> float | None:
    """Compute the distance at which two samples of ``questions`` each become distinguishable (large-sample formula).

    ``sqrt(-ln(alpha / 2) / 2) * sqrt(2 / n)``, between 0 and 1; ``None`` without questions.
    """
    if questions <= 0:
        return None
    return min(1.0, math.sqrt(-math.log(SIGNIFICANCE / 2) / 2) * math.sqrt(2 / questions))
