"""PDU: flat logits on the forget set, and a weight of the retain term that learns itself (arXiv 2506.05314)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import scored_logits
from meow_lightning.types import Batch, LossPart, LossParts

if TYPE_CHECKING:
    import torch


class Pdu(BaseMethod):
    """L = mean over forget answer tokens of (max_v z_v - mean_v z_v)^2 + mu * (CE(retain) - eps).

    After each step mu <- max(0, mu + eta * (CE(retain) - eps)): the dual variable of the constraint CE(retain) <= eps
    grows while it is broken and shrinks while it holds. "Constrained Entropic Unlearning: A Primal-Dual Framework for
    Large Language Models", Entesari et al. 2025. The part -mu * eps has no gradient and is left out of the loss.

    Published code takes the forget term's mean over prompts or padding as well (its mask is not shifted to where a
    token is predicted) and moves mu with every micro-batch by that one's CE. Here answer tokens alone count, and mu
    moves once a step by the CE of the whole global batch, however it is split. Its epochs of warm-up, in which mu
    stands still, are left out.

    Args:
        mu0: First mu, 0 or more.
        eta: Step of mu, 0 or more; 0 keeps mu as it is.
        eps: The retain set's cross-entropy that is allowed, in nats per token, 0 or more.
    """

    streams: ClassVar[tuple[str, ...]] = ("forget", "retain")

    def __init__(self, *, mu0: float, eta: float, eps: float) -> None:
        self.mu, self.eta, self.eps = mu0, eta, eps

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Two parts: ``forget``, and ``retain`` with weight mu."""
        logits_NV = scored_logits(model, batch["forget"])[0]  # noqa: N806
        peak_N = logits_NV.amax(-1) - logits_NV.mean(-1)  # noqa: N806
        return {
            "forget": LossPart(sum=(peak_N**2).sum(), stream="forget", per="token"),
            # computed with mu = 0 too: mu may have to grow again
            "retain": cross_entropy(model, batch["retain"], stream="retain", weight=self.mu),
        }

    def on_step_end(self, values: Mapping[str, float]) -> None:
        """Nothing; mu moves by the step's CE(retain)."""
        self.mu = max(0.0, self.mu + self.eta * (values["retain"] - self.eps))

    def state(self) -> dict[str, float]:
        """``mu``."""
        return {"mu": self.mu}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing; mu is what ``state`` says."""
        self.mu = state["mu"]
