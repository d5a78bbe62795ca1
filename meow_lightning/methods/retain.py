"""Term on the retain set that several methods can add to their own: none, cross-entropy, or KL to the start model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from meow_lightning.config.ranges import NonNegative
from meow_lightning.errors import check_choice
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.preference import start_kl
from meow_lightning.types import Batch, LossParts, Reference

if TYPE_CHECKING:
    import torch

RetainTerm = Literal["none", "ce", "kl"]


class RetainMethod(BaseMethod):
    """Base class of methods with an optional term on the retain set, of as many rows per step as the first stream.

    - ``none``: no retain rows are read.
    - ``ce``: w * CE(retain), descent on the retain set (``npo_gd``, ``grad_diff`` and others).
    - ``kl``: w * mean over retain answer tokens of KL(p_start || p); the start model runs on retain rows only
      (``npo_kl``, ``kl`` and others). Published code includes prompts and padding in the divergence. With the option
      ``method.anchor=retain``, p_start is the retain model, which never saw the forget set.

    Args:
        retain: The term.
        retain_weight: w, 0 or more; without effect for ``none``.

    Raises:
        UserError: ``retain`` is none of them.
    """

    def __init__(self, *, retain: RetainTerm = "none", retain_weight: NonNegative = 1.0) -> None:
        check_choice("method.retain", retain, get_args(RetainTerm))
        self.retain, self.retain_weight = retain, retain_weight
        if retain != "none":
            self.streams = (*self.streams, "retain")
        if retain == "kl":
            self.reference = _with_model(self.reference)

    def retain_part(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Compute the term as the part ``retain``; no part for ``none``.

        Args:
            model: The model in training.
            batch: Rows by stream.
            reference: The frozen start model, or the retain model in its place, for ``kl``.

        Raises:
            TypeError: ``reference`` is ``None`` and ``kl`` needs it.
        """
        if self.retain == "none":
            return {}
        if self.retain == "ce":
            return {"retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.retain_weight)}
        return {"retain": start_kl(model, reference, batch["retain"], stream="retain", weight=self.retain_weight)}

    def start_of_ratios(self, reference: torch.nn.Module | None) -> torch.nn.Module | None:
        """Select the start model of log-ratios; ``None``: its stored log-probabilities, ``TokenBatch.ref_logps_B``.

        Beside ``kl``, whose model is there for the retain rows alone, the stored ones save a forward pass.
        """
        return None if self.retain == "kl" else reference


def _with_model(reference: Reference) -> Reference:
    return "both" if reference in ("logprobs", "both") else "model"
