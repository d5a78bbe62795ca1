"""Membership inference and privacy leakage of one model: the forget set against the holdout set."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

from meow_lightning.evaluation.metrics import membership, privacy_leakage
from meow_lightning.evaluation.metrics.forget_quality import check_same_questions
from meow_lightning.evaluation.protocols import open_unlearning_metrics
from meow_lightning.evaluation.suite.inputs import Answers
from meow_lightning.evaluation.suite.per_set import Outcome, without_tokens
from meow_lightning.types import AnswerRow, Definition

MEMBERS, OTHERS = "forget", "holdout"

_LEAKAGE = tuple((privacy_leakage.definition(k), membership.min_k_attack(k)) for k in membership.SHARES)

DEFINITIONS: tuple[Definition, ...] = (
    *(attack.definition for attack in membership.ATTACKS),
    *(definition for definition, _ in _LEAKAGE),
)


def attacked_sets(names: Container[str]) -> list[str]:
    """List the two sets that an attack compares; empty if either is missing.

    Args:
        names: Available evaluation sets.
    """
    return [MEMBERS, OTHERS] if MEMBERS in names and OTHERS in names else []


def membership_outcomes(answers: Answers, role: str) -> dict[str, Outcome]:
    """Compute the AUC of every attack on one model, and its privacy leakage against the retain model.

    Args:
        answers: Answers of all models.
        role: Role of the model.

    Raises:
        UserError: The two models answered different questions.
    """
    outcomes = {attack.definition.name: _auc(answers, role, attack) for attack in membership.ATTACKS}
    for definition, attack in _LEAKAGE:
        retain_auc = _auc(answers, "retain", attack)
        if isinstance(retain_auc, str) and answers.protocol == "open_unlearning":
            retain_auc = open_unlearning_metrics.NO_RETAIN_AUC
        outcomes[definition.name] = _leakage(outcomes[attack.definition.name], retain_auc)
    return outcomes


def _leakage(auc: Outcome, retain: Outcome) -> Outcome:
    for outcome in (auc, retain):
        if isinstance(outcome, str):
            return outcome
    if retain == 1:
        return (
            "not measured: the attack's AUC on the retain model is 1, and privacy leakage divides by 1 minus it; the "
            "forget and holdout sets differ in more than membership"
        )
    return privacy_leakage.privacy_leakage(float(auc), float(retain))


def _auc(answers: Answers, role: str, attack: membership.Attack) -> Outcome:
    for name in (MEMBERS, OTHERS):
        if reason := _missing_reason(answers, role, attack, name):
            return f"not measured: {reason}"
    sides = [answers.sets[role][name] for name in (MEMBERS, OTHERS)]
    truths = (row.truth for rows in sides for row in rows)
    if attack.needs == "spread" and not membership.is_under_the_model(truths):
        return (
            "not measured: the stored predictions have mean and standard deviation over the vocabulary with equal "
            "weights, and Min-K%++ needs them under the model's own distribution: run the stage `predict` again"
        )
    scores = [_scores(answers, role, attack, rows) for rows in sides]
    invalid = sum(math.isnan(score) for side in scores for score in side)
    if invalid:
        total = sum(map(len, scores))
        return f"not measured: {invalid} of {total} scores of the {role} model are NaN; did training diverge?"
    return membership.auc(*scores)


def _missing_reason(answers: Answers, role: str, attack: membership.Attack, name: str) -> str:
    """Explain why one of the two sets is missing for an attack on a model; empty if both are present."""
    if reason := answers.missing_reason(role, None):
        return reason
    if OTHERS not in answers.names:
        return f"the dataset has no set {OTHERS!r}: questions like the forget set's that no model was trained on"
    if reason := answers.missing_reason(role, name):
        return reason
    if attack.needs in ("tokens", "spread"):
        return without_tokens(name, answers.sets[role][name], protocol=answers.protocol)
    if attack.needs == "gradient":
        return _without_gradient(name, answers.sets[role][name])
    return answers.missing_reason("retain", name) if attack.needs == "retain" else ""


def _without_gradient(name: str, rows: Sequence[AnswerRow]) -> str:
    if missing := sum(row.gradient is None for row in rows):
        of = f"{len(rows)} true answers of set {name!r}"
        return (
            f"{missing} of {of} have no gradient norm: they come from a log, consist of the end token only, or were "
            "predicted with evaluation.gradient_norm=false"
        )
    return ""


def _scores(answers: Answers, role: str, attack: membership.Attack, rows: Sequence[AnswerRow]) -> list[float]:
    if attack.score is not None and answers.protocol == "open_unlearning":
        return [open_unlearning_metrics.attack_score(attack, row) for row in rows]
    if attack.score is not None:
        return list(map(attack.score, rows))
    retain = answers.sets["retain"][rows[0].set]
    check_same_questions(rows, retain, names=(role, "retain"))
    return [
        membership.reference_score(row.truth.logps, other.truth.logps) for row, other in zip(rows, retain, strict=True)
    ]
