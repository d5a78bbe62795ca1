"""PrivLeak: the attack's AUC relative to that on the retain model (MUSE, Shi et al. 2024)."""

from __future__ import annotations

from meow_lightning.errors import UserError
from meow_lightning.types import Definition


def definition(k: float) -> Definition:
    """Definition of the privacy leakage of a Min-K% attack.

    Args:
        k: Share of the tokens that the attack looks at, above 0 and at most 1.
    """
    return Definition(
        name=f"privacy_leakage/min_k_{100 * k:.0f}",
        id=f"privacy_leakage_min_k_{100 * k:.0f}.1",
        unit="ratio",
        direction="none",
        text=f"How far the Min-K% attack (least likely {k:.0%} of the tokens) is from its success on the retain model: "
        "0 is best, below 0 the forget set still looks like training data (forgot too little), above 0 it looks more "
        "foreign than texts never seen (forgot too much, which gives it away too). MUSE and open-unlearning print 100 "
        "times this number.",
    )


def privacy_leakage(auc: float, retain_auc: float) -> float:
    """``((1 - auc) - (1 - auc_retain)) / (1 - auc_retain)``, at least -1: MUSE, Shi et al. 2024, PrivLeak / 100.

    -1 is the extreme auc = 1, where the forget set looks like training data; 0 is the retain model's own value; the
    other extreme, auc = 0, is ``auc_retain / (1 - auc_retain)``. open-unlearning assumes ``auc_retain = .5`` without a
    retain model; here the metric is then missing.

    Args:
        auc: AUC of an attack on the evaluated model, 0 to 1.
        retain_auc: AUC of the same attack on the retain model, 0 to below 1.

    Raises:
        UserError: The retain model's AUC is 1, so the equation divides by 0.
    """
    if retain_auc == 1:
        raise UserError(
            "the attack's AUC on the retain model is 1, and privacy leakage divides by 1 minus it: the forget and "
            "holdout sets differ beside membership; bring a holdout set of the same kind of questions"
        )
    return ((1 - auc) - (1 - retain_auc)) / (1 - retain_auc)
