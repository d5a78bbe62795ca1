"""Leakage of forgotten values in a model's answers to all questions, or the reason why it is missing."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.metrics import leakage
from meow_lightning.evaluation.suite.inputs import Answers
from meow_lightning.evaluation.suite.per_set import Outcome

DEFINITIONS = leakage.DEFINITIONS


def leakage_outcomes(answers: Answers, role: str, public: Sequence[str]) -> dict[str, Outcome]:
    """Compute the share of the answers with a forgotten value, that with another question's value, and their counts.

    Args:
        answers: Answers of all models.
        role: Role of the model.
        public: Answers of retained facts, which never count as leaks, evaluated or not.
    """
    names = [definition.name for definition in DEFINITIONS]
    for name in (None, leakage.FORGET, *answers.names):
        if reason := answers.missing_reason(role, name):
            return dict.fromkeys(names, f"not measured: {reason}")
    result = leakage.leakage(answers.sets[role], public)
    if result is None:
        return dict.fromkeys(
            names,
            "not measured: no question of set 'forget' marks the words that carry its fact (value), and none of its "
            "true answers contains a name, date or number of its own",
        )
    return dict(zip(names, (result.share, result.elsewhere, float(result.values), float(result.rows)), strict=True))
