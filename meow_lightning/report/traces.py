"""Traces of forgotten facts: signs that a model which answers otherwise still knows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import number
from meow_lightning.types import Results

LEAKAGE, PROBABILITY, VALUES = "privacy_leakage/min_k_40", "forget/probability", "forget/value_accuracy"
ERASED = {
    "logit_lens_erasure": "Of what the layers show of the true values through the model's own head, {erased:.0%} is "
    "erased (target model: 0%, retain model: 100%).",
    "unlearning_depth_score": "Of what its hidden states carry into the target model, {erased:.0%} is erased (target "
    "model: 0%, retain model: 100%).",
}
"""Sentences about what the hidden states lack of the facts, by metric: 0 as the target model, 1 as the retain model."""
REMAINS = 0.5  # share of a trace above which the facts are still there: nearer to the target than to the retain model


@dataclass(frozen=True, slots=True)
class Trace:
    """What is left of one trace.

    Attributes:
        sentence: What was measured, of the three models.
        share: 1 if the unlearned model shows it as the target model does, 0 as the retain model does; beyond both is
            possible.
    """

    sentence: str
    share: float

    @property
    def remains(self) -> bool:
        """Whether the unlearned model lies nearer to the target than to the retain model."""
        return self.share > REMAINS


def traces(results: Results) -> list[Trace]:
    """Measure what is left of the facts by a membership attack, by the truth's probability, and in the layers if read.

    A trace of which the target and the retain model show the same is left out: it says nothing about forgetting.
    """
    return [each for each in (_membership(results), _probability(results)) if each is not None] + layers(results)


def layers(results: Results) -> list[Trace]:
    """Measure what is left of the facts in the hidden states, by the attacks on hidden states of the run."""
    found = []
    for known in results.definitions:
        erased = number(results, "unlearned", known.name)
        if known.metric in ERASED and erased is not None:
            found.append(Trace(ERASED[known.metric].format(erased=erased), 1 - erased))
    return found


def recovered(results: Results) -> dict[str, Trace]:
    """Measure what every attack brings back: the share of answers with the true value, by the name of the attack."""
    found = {}
    for condition, text in results.conditions.items():
        values = _of_roles(results, VALUES, condition)
        if values is not None and (trace := _trace(f"{text}: {values[1]:.0%} of the answers", values)) is not None:
            found[condition] = trace
    return found


def _membership(results: Results) -> Trace | None:
    """Compare the privacy leakage with the target's; the retain model's is 0 by definition."""
    target, unlearned = number(results, "target", LEAKAGE), number(results, "unlearned", LEAKAGE)
    if target is None or unlearned is None or target >= 0:
        return None
    return Trace(
        "A membership attack (Min-40%) tells facts to forget from facts never seen: privacy leakage "
        f"{unlearned:.2f} (target model: {target:.2f}, retain model: 0).",
        unlearned / target,
    )


def _probability(results: Results) -> Trace | None:
    """Compare the truth's probability per token in logarithms."""
    values = _of_roles(results, PROBABILITY)
    if values is None or min(values) <= 0:
        return None
    return _trace(
        f"The true answers have probability {values[1]:.2f} per token (target model: {values[0]:.2f}, retain model: "
        f"{values[2]:.2f}).",
        (math.log(values[0]), math.log(values[1]), math.log(values[2])),
    )


def _trace(sentence: str, values: tuple[float, float, float]) -> Trace | None:
    """Place the unlearned model between the retain (0) and the target model (1); ``None`` if these do not differ."""
    target, unlearned, retain = values
    return Trace(sentence, (unlearned - retain) / (target - retain)) if target > retain else None


def _of_roles(results: Results, name: str, condition: str = "") -> tuple[float, float, float] | None:
    """Read a number of target, unlearned and retain model, in this order; ``None`` if one is missing."""
    target, unlearned, retain = (
        number(results, str(Subject(role, condition)), name) for role in ("target", "unlearned", "retain")
    )
    return None if target is None or unlearned is None or retain is None else (target, unlearned, retain)
