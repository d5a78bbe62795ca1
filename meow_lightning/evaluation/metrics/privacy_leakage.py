"""PrivLeak: the attack's AUC relative to that on the retain model (MUSE, Shi et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import Answers, MetricSettings
from meow_lightning.evaluation.metric import AFTER_SETS, Outcome, RunMetric
from meow_lightning.evaluation.metrics.membership import SHARES, attack_auc, min_k_attack
from meow_lightning.types import Definition, SetInfo


def privacy_leakage(auc: float, retain_auc: float) -> float:
    """Compute ``((1 - auc) - (1 - auc_retain)) / (1 - auc_retain)``, at least -1.

    MUSE's PrivLeak (Shi et al. 2024) is 100 times this. -1 is the extreme auc = 1, where the forget set looks like
    training data; 0 is the retain model's own value; the other extreme, auc = 0, is ``auc_retain / (1 -
    auc_retain)``. open-unlearning assumes ``auc_retain = .5`` without a retain model; here the metric is then missing.

    Args:
        auc: AUC of an attack on the evaluated model, 0 to 1.
        retain_auc: AUC of the same attack on the retain model, 0 to below 1.

    Raises:
        UserError: The retain model's AUC is 1, so the equation divides by 0.
    """
    if retain_auc == 1:
        raise UserError(
            "the attack's AUC on the retain model is 1, and privacy leakage divides by 1 minus it: the forget and "
            "holdout sets differ in more than membership; provide a holdout set of the same kind of questions"
        )
    return ((1 - auc) - (1 - retain_auc)) / (1 - retain_auc)


class PrivacyLeakage(RunMetric):
    """:func:`privacy_leakage` of the Min-K% attacks on a model."""

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the privacy leakage of every Min-K% attack; tables begin with MUSE's."""
        return [
            Definition(
                name=_name(k), id=f"privacy_leakage_min_k_{100 * k:.0f}.1", unit="ratio", direction="none",
                text=f"Relative difference between the Min-K% attack (least likely {k:.0%} of the tokens) on this and "
                "on the retain model: 0 is best; below 0 the forget set still looks like training data "
                "(under-unlearning), above 0 less likely than unseen texts (over-unlearning, which reveals it too). "
                "MUSE and open-unlearning report 100 times this value.",
                label=f"privacy leakage by {min_k_attack(k).label}", order=AFTER_SETS + 100 + 10 * position, main=False,
            )
            for position, k in enumerate(reversed(SHARES))
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compare each attack on one model with the same attack on the retain model."""
        found: dict[str, Outcome] = {}
        for k in SHARES:
            attack, settings = min_k_attack(k), answers.settings
            assumed = settings.retain_aucs.get(attack.name, settings.formulas.retain_auc)
            retain = attack_auc(answers, "retain", attack)
            if isinstance(retain, str) and assumed is not None:
                retain = assumed
            found[_name(k)] = _outcome(attack_auc(answers, role, attack), retain)
        return found


def _name(k: float) -> str:
    return f"privacy_leakage/min_k_{100 * k:.0f}"


def _outcome(auc: Outcome, retain: Outcome) -> Outcome:
    for outcome in (auc, retain):
        if isinstance(outcome, str):
            return outcome
    if retain == 1:
        return (
            "not measured: the attack's AUC on the retain model is 1, and privacy leakage divides by 1 minus it; the "
            "forget and holdout sets differ in more than membership"
        )
    return privacy_leakage(float(auc), float(retain))
