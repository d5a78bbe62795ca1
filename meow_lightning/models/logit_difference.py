"""Logits of a base model minus those of an assistant, on the tokens that the base model finds plausible."""

from __future__ import annotations

import math
from typing import Literal

import torch
from transformers import PreTrainedModel

from meow_lightning.models.logits_model import LogitsModel

Outside = Literal["neg_inf", "keep_base"]


def logit_difference(
    base: torch.Tensor, assistant: torch.Tensor, *, alpha: float, rho: float, outside: Outside
) -> torch.Tensor:
    """Compute the logits of ULD, z = z_base - alpha z_assistant, on plausible tokens; at least in fp32.

    A token v is plausible if p_base(v) >= rho max p_base. Elsewhere the assistant, which was trained on little text, is
    not to be trusted: a very negative logit of it would make an absurd token the most likely one. A token with p_base
    above 1 / (1 + rho) is the only plausible one and stays certain, whatever the assistant knows.

    For other tokens, ``outside`` decides:

    - ``neg_inf``: z = -inf, so they are never generated.
    - ``keep_base``: p(v) = p_base(v). Their logits are z_base + c with c = logsumexp(z) - logsumexp(z_base) over the
      plausible tokens, so that these share the probability that they have under the base model. Likelihoods stay
      finite, and a constant added to the assistant's logits changes nothing.

    Both have the same most likely token, since the largest of the plausible probabilities is at least their mean, which
    is at least rho max p_base; scores of likelihoods and generated texts therefore describe one model.

    Args:
        base: Logits of the base model, (..., V).
        assistant: Logits of the assistant, likewise.
        alpha: Weight of the assistant, 0 or more.
        rho: Smallest probability of a plausible token relative to the largest, 0 (every token is plausible) to 1 (only
            the most likely ones are).
        outside: Logits of all other tokens.
    """
    dtype = torch.promote_types(torch.promote_types(base.dtype, assistant.dtype), torch.float32)
    base, assistant = base.to(dtype), assistant.to(dtype)
    difference = base - alpha * assistant
    if rho == 0:
        return difference
    implausible = base < base.amax(-1, keepdim=True) + math.log(rho)
    plausible = difference.masked_fill(implausible, -math.inf)
    if outside == "neg_inf":
        return plausible
    shared = base.masked_fill(implausible, -math.inf).logsumexp(-1, keepdim=True)
    return torch.where(implausible, base + plausible.logsumexp(-1, keepdim=True) - shared, difference)


class LogitDifference(LogitsModel):
    """A base model and an assistant as one language model: :func:`logit_difference` at every position.

    Generation uses ``neg_inf`` in any case; see :meth:`decoder`. Each model has a cache of its own.

    Args:
        base: The base model.
        assistant: The assistant, with the same vocabulary.
        alpha: Weight of the assistant, 0 or more.
        rho: Smallest relative probability of a plausible token, 0 to 1.
        outside: Logits of all other tokens, ``keep_base`` for finite likelihoods.
    """

    def __init__(
        self, base: PreTrainedModel, assistant: PreTrainedModel, *, alpha: float, rho: float, outside: Outside
    ) -> None:
        super().__init__(base, assistant)
        self.alpha, self.rho, self.outside = alpha, rho, outside

    def combine(self, *logits_BTV: torch.Tensor) -> torch.Tensor:  # noqa: N803
        """Subtract the assistant's logits from those of the base model."""
        base, assistant = logits_BTV
        return logit_difference(base, assistant, alpha=self.alpha, rho=self.rho, outside=self.outside)

    def decoder(self) -> LogitDifference:
        """Return the same models with implausible tokens excluded."""
        base, assistant = self.models
        made = LogitDifference(base, assistant, alpha=self.alpha, rho=self.rho, outside="neg_inf")  # type: ignore[arg-type]
        made.training = self.training
        return made
