"""Opt-Out: NPO, near neighbours kept, close to the start weights (arXiv 2406.12329v3; ACL 2025)."""

from __future__ import annotations

from typing import ClassVar

from meow_lightning.config.ranges import Count, CountOrZero, NonNegative, Positive
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.wasserstein import WassersteinMethod


class OptOut(WassersteinMethod):
    """L = L_NPO(forget) + r * CE(hard retain rows) + w * sum over tensors of SW.

    L_NPO is that of :class:`.npo.Npo`, per row with sums over tokens. Published code (brightjade/Opt-Out) puts the mean
    loss of a batch into the log-sigmoid, one number per batch and normalised by length, which is another method; it
    steps on the forget loss alone, within the computation of the loss, so that gradient accumulation, clipping and the
    schedule do not see that step; and it trains on general instructions besides. Here all terms enter one step, and
    there are no general instructions. Of the distance: :class:`.wasserstein.WassersteinMethod`.

    Args:
        beta: Above 0, per nat, as for NPO.
        retain_weight: r, 0 or more.
        neighbours: Retain examples per question to forget; 0 for the whole retain set.
        wasserstein_weight: w, 0 or more.
        projections: Directions per tensor and step, 1 or more.
    """

    per_row: ClassVar[bool] = True

    def __init__(
        self, *, beta: Positive, retain_weight: NonNegative, neighbours: CountOrZero, wasserstein_weight: NonNegative,
        projections: Count,
    ) -> None:  # fmt: skip
        super().__init__(
            Npo(beta=beta, retain="ce", retain_weight=retain_weight), neighbours=neighbours,
            wasserstein_weight=wasserstein_weight, projections=projections,
        )  # fmt: skip
        self.beta, self.retain_weight = beta, retain_weight
