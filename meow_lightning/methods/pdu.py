"""PDU: flat logits on the forget set and a learned weight of the retain term (arXiv 2506.05314)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meow_lightning.config.ranges import NonNegative
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import token_values
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch


class Pdu(BaseMethod):
    """L = mean over forget answer tokens of (max_v z_v - mean_v z_v)^2 + mu * (CE(retain) - eps).

    After each step mu <- max(0, mu + eta * (CE(retain) - eps)): the dual variable of the constraint CE(retain) <= eps
    grows while it is violated and shrinks while it holds. "Constrained Entropic Unlearning: A Primal-Dual Framework for
    Large Language Models", Entesari et al. 2025. The constant -mu * eps is omitted from the loss.

    Published code averages the forget term over prompts or padding as well (its mask is not shifted to where a token is
    predicted) and updates mu after every micro-batch by its CE. Here only answer tokens count, and mu is updated once
    per step by the CE of the global batch, independent of micro-batching. Its warm-up epochs, in which mu is constant,
    are omitted.

    Args:
        mu0: Initial mu, 0 or more.
        eta: Step size of mu, 0 or more; 0 keeps mu constant.
        eps: Allowed cross-entropy of the retain set, in nats per token, 0 or more.
    """

    streams: tuple[str, ...] = ("forget", "retain")

    def __init__(self, *, mu0: NonNegative, eta: NonNegative, eps: NonNegative) -> None:
        self.mu, self.eta, self.eps = mu0, eta, eps

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return two parts: ``forget``, and ``retain`` with weight mu."""
        peak_N = token_values(_peak, model, batch["forget"])  # noqa: N806
        return {
            "forget": LossPart(sum=(peak_N**2).sum(), stream="forget", per="token"),
            # computed with mu = 0 too: mu may have to grow again
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.mu),
        }

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Update mu by the step's CE(retain)."""
        self.mu = max(0.0, self.mu + self.eta * (values["retain"] - self.eps))

    def state_dict(self) -> dict[str, float]:
        """Return ``mu``."""
        return {"mu": self.mu}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore ``mu``."""
        self.mu = state["mu"]


def _peak(logits_NV: torch.Tensor, _: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Compute max_v z_v - mean_v z_v of every token, shape (N,)."""
    return logits_NV.amax(-1) - logits_NV.mean(-1)
