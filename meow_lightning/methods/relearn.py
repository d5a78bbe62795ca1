"""ReLearn: vague answers to several phrasings of each question (arXiv 2502.11190; ACL 2025)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from meow_lightning.config.ranges import NonNegative, Range
from meow_lightning.data.streams.vague import MOST, Vague
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import cross_entropy, divergence
from meow_lightning.models.logprobs import negative_log_likelihood, token_values
from meow_lightning.types import Batch, LossPart, LossParts, Reference

if TYPE_CHECKING:
    import torch


class ReLearn(BaseMethod):
    """L = CE(vague answers) + r * CE(retain) + k * KL(p_start || p) on the same retain rows.

    "ReLearn: Unlearning via Learning for Large Language Models", Xu et al. 2025. The vague answers address the question
    without any detail; where the paper has a language model write them and the phrasings, rules do here, and there are
    no general question-answer rows among them.

    Published code (zjunlp/unlearn) sums the divergence over prompts and padding too and divides by all positions; its
    script that gathers the rows adds every original question with its true answer to those that are learned. Here the
    divergence is a mean over answer tokens, and true answers are not trained.

    Args:
        phrasings: Phrasings per question, from 1.
        retain_weight: r, 0 or more.
        kl_weight: k, 0 or more.
    """

    streams: tuple[str, ...] = ("vague", "retain")
    reference: Reference = "model"

    def __init__(
        self, *, phrasings: Annotated[int, Range(1, MOST)], retain_weight: NonNegative, kl_weight: NonNegative
    ) -> None:
        self.phrasings, self.retain_weight, self.kl_weight = phrasings, retain_weight, kl_weight
        self.builders = {"vague": Vague(phrasings)}

    def loss(self, model: torch.nn.Module, batch: Batch, reference: torch.nn.Module | None) -> LossParts:
        """Return ``vague``, and ``retain`` with both terms, for which the model reads the retain rows once.

        Raises:
            TypeError: ``reference`` is ``None``.
        """
        if reference is None:
            raise TypeError("the divergence on retain needs the start model: the method's reference must be 'model'")
        values = partial(_both, ce=self.retain_weight, kl=self.kl_weight)
        retain = token_values(values, model, batch["retain"], frozen=[reference]).sum()
        return {
            "vague": cross_entropy(model, batch["vague"], stream="vague", weight=1.0),
            "retain": LossPart(sum=retain, stream="retain", per="token"),
        }


def _both(logits_NV: torch.Tensor, ids_N: torch.Tensor, ref_NV: torch.Tensor, *, ce: float, kl: float) -> torch.Tensor:  # noqa: N803
    return ce * negative_log_likelihood(logits_NV, ids_N) + kl * divergence(logits_NV, ids_N, ref_NV)
