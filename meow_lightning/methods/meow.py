"""MEOW: fine-tune on the inverted facts selected by MEMO (arXiv 2409.11844; Findings of ACL 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meow_lightning.methods.losses import cross_entropy
from meow_lightning.methods.retain import RetainMethod
from meow_lightning.types import Batch, LossParts

if TYPE_CHECKING:
    import torch


class Meow(RetainMethod):
    """Cross-entropy on the selected inverted answers, prompt masked; no retain data, no reference model.

    L = (1 / n) * sum over the tokens of the inverted answers of -log p(token | question, earlier tokens)

    A retain term is not in the paper but ours, for users with retain data who want to preserve more. ``retain: kl`` is
    not ``meow_forgetKL`` of MEOW's code, which takes the divergence on the inverted rows themselves, including prompts
    and padding, so it counteracts the other term; the retain rows that it loads are unused.

    Args:
        retain: The retain term; see :class:`.retain.RetainMethod`.
        retain_weight: Its weight, 0 or more.
    """

    streams: tuple[str, ...] = ("inverted",)

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``inverted`` and the retain term."""
        return {
            "inverted": cross_entropy(model, batch["inverted"], stream="inverted", weight=1.0),
            **self.retain_part(model, batch, reference),
        }
