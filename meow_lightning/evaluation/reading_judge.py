"""Known/unknown judge of the SlimPLM probe: a language model that is asked whether an answer is correct.

After "Small Models, Big Insights" (Tan et al. 2024, arXiv 2402.12052), whose judge is a fine-tuned language model; this
one is used as it is, and only its threshold is chosen on questions whose being known was measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

YES, NO = ("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the language model says about the answers to a question.

    Attributes:
        own: Log-odds of Yes against No for the model's own answer, in nats.
        proxy: The same for the proxy's answer.
    """

    own: float
    proxy: float


def yes_no_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """List the first tokens of every spelling of Yes and of No, without those that begin both.

    Args:
        tokenizer: The tokenizer of the language model.

    Raises:
        UserError: The tokenizer cannot tell Yes from No by one token.
    """
    yes, no = (
        {ids[0] for text in texts if (ids := tokenizer(text, add_special_tokens=False).input_ids)}
        for texts in (YES, NO)
    )
    if not yes - no or not no - yes:
        raise UserError("its tokenizer begins Yes and No with the same token; use another model")
    return sorted(yes - no), sorted(no - yes)


def log_odds(logits_V: torch.Tensor, yes: Collection[int], no: Collection[int]) -> float:  # noqa: N803
    """Compute how much more probable Yes is than No as the next token.

        s = log sum_{t in Yes} P(t) - log sum_{t in No} P(t)

    Args:
        logits_V: Logits of the next token, (vocabulary,).
        yes: Token ids of Yes.
        no: Token ids of No.
    """
    logits = logits_V.double()
    return float(logits[list(yes)].logsumexp(0) - logits[list(no)].logsumexp(0))


def next_logits(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """Compute the logits of the token after a prompt; one prompt at a time, so that they depend on it alone.

    Args:
        model: The language model, in evaluation mode.
        ids: Token ids of the prompt.
    """
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.tensor([list(ids)], device=model.device)).logits[0, -1]
    return logits.cpu()


def best_threshold(scores: Sequence[float], known: Sequence[bool]) -> float:
    """Choose the threshold that tells known from unknown questions best: the one with the largest Youden's J.

        J(t) = share of the known with s >= t  -  share of the unknown with s >= t

    The candidates lie in the middle between neighbouring scores. Of equally good ones the smallest is taken, and if
    none is better than chance, the largest score: the judge then calls hardly anything known.

    Args:
        scores: Log-odds of the questions set aside.
        known: Whether each of these is known; both happen.
    """
    ranked = sorted({*scores})
    middles = [(low + high) / 2 for low, high in pairwise(ranked)]
    positive, negative = sum(known), len(known) - sum(known)

    def youden(threshold: float) -> float:
        above = [flag for score, flag in zip(scores, known, strict=True) if score >= threshold]
        return sum(above) / positive - (len(above) - sum(above)) / negative

    best = max(middles, key=youden, default=None)
    return ranked[-1] if best is None or youden(best) <= 0 else best


def read_probabilities(trained: Sequence[float], known: Sequence[bool], tested: Sequence[float]) -> list[float]:
    """Turn log-odds into probabilities that the questions are known.

        p = 1 / (1 + exp(t - s)),   t the best threshold on the questions set aside

    so that the probability is one half at that threshold. The order of the questions is that of the log-odds, so AUROC
    does not depend on t.

    Args:
        trained: Log-odds of the questions set aside.
        known: Whether each of these is known; both happen.
        tested: Log-odds of the others.
    """
    threshold = best_threshold(trained, known)
    return [_sigmoid(score - threshold) for score in tested]


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
