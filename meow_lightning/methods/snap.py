"""SNAP: learn refusals, keep near neighbours and stay close to the start weights (arXiv 2406.12329v1)."""

from __future__ import annotations

from meow_lightning.config.ranges import Count, CountOrZero, NonNegative
from meow_lightning.methods.idk import Idk
from meow_lightning.methods.wasserstein import WassersteinMethod


class Snap(WassersteinMethod):
    """L = CE(refusals to the forget set's questions) + r * CE(hard retain rows) + w * sum over tensors of SW.

    "Opt-Out: Investigating Entity-Level Unlearning for Large Language Models via Optimal Transport", Choi et al., in
    its first version, SNAP: all terms descend. Hard retain rows are those whose questions are nearest to the questions
    to forget; the paper has GPT write both them and the refusals, which are rules here. Of SNAP no code is public; the
    objective is inferred from the abstract and from the code of the third version, see :class:`.opt_out.OptOut` and
    :class:`.wasserstein.WassersteinMethod`. Without hard rows and with w = 0 this is :class:`.idk.Idk`.

    Args:
        retain_weight: r, 0 or more.
        neighbours: Retain examples per question to forget; 0 for the whole retain set.
        wasserstein_weight: w, 0 or more.
        projections: Directions per tensor and step, 1 or more.
    """

    def __init__(
        self, *, retain_weight: NonNegative, neighbours: CountOrZero, wasserstein_weight: NonNegative,
        projections: Count,
    ) -> None:  # fmt: skip
        super().__init__(
            Idk(retain_weight=retain_weight), neighbours=neighbours, wasserstein_weight=wasserstein_weight,
            projections=projections,
        )  # fmt: skip
        self.retain_weight = retain_weight
