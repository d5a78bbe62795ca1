"""Membership inference attacks on the forget set against held-out texts (Shi et al. 2024 and others)."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.metrics.probability import mean_logp
from meow_lightning.types import AnswerRow, Definition, Likelihood

SHARES = (0.2, 0.4)
"""Reported shares k of the least likely tokens: those of Shi et al., and that of MUSE and open-unlearning."""

SMALLEST_STD = 1e-3
"""Floor of the standard deviation, which is 0 where a model is certain; the same as in open-unlearning."""


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Compute ``(#{m > o} + #{m = o} / 2) / (M N)`` over all pairs, 0 to 1.

    This is Mann-Whitney's U, computed by ranks in O((M + N) log N).

    Args:
        members: Scores of the M texts that may have been trained on; higher indicates membership.
        others: Scores of the N texts that were not.

    Raises:
        UserError: A side is empty or contains NaN.
    """
    invalid = sum(map(math.isnan, (*members, *others)))
    if not (len(members) and len(others)) or invalid:
        raise UserError(
            f"the AUC got {len(members)} scores of members and {len(others)} of others, {invalid} of them NaN: "
            "expected at least 1 on each side and no NaN; predict both sets, and check whether training diverged"
        )
    ordered = sorted(others)
    doubled = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in members)
    return doubled / (2 * len(members) * len(others))


def loss_score(logps: Sequence[float]) -> float:
    """Compute the loss attack (Yeom et al. 2018): ``mean_t logps[t]``, the negative mean loss.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
    """
    return mean_logp(logps)


def zlib_score(logps: Sequence[float], text: str) -> float:
    """Compute the zlib attack (Carlini et al. 2021): ``mean_t logps[t] / |zlib(text)|``.

    This is the loss relative to the complexity of the text.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
        text: The answer; its compressed UTF-8 bytes are counted.
    """
    return mean_logp(logps) / len(zlib.compress(text.encode("utf-8")))


def min_k_score(logps: Sequence[float], *, k: float) -> float:
    """Compute Min-K% Prob (Shi et al. 2024): mean of the ``max(1, floor(k T))`` smallest of the T log-probabilities.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
        k: Share of the tokens, above 0 and at most 1.

    Raises:
        UserError: ``k`` is out of range, or no token is scored.
    """
    if not 0 < k <= 1:
        raise invalid_option("k", k, "a number above 0 and at most 1 (usual: 0.2 or 0.4)")
    # the 1e-9 absorbs rounding: .29 * 100 must give 29
    return mean_logp(sorted(logps)[: max(1, math.floor(k * len(logps) + 1e-9))])


def min_k_plus_plus_score(logps: Sequence[float], mean: Sequence[float], std: Sequence[float], *, k: float) -> float:
    """Compute Min-K%++ (Zhang et al. 2025): Min-K% Prob of ``z_t = (logps[t] - mean[t]) / std[t]``.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
        mean: ``E_{v ~ p}[log p(v)]`` at each position under the model's own distribution p: the negative entropy.
        std: Standard deviation of ``log p(v)`` under p at each position, clamped to at least ``SMALLEST_STD``.
        k: Share of the tokens, above 0 and at most 1.

    Raises:
        UserError: ``k`` is out of range, or no token is scored.
    """
    tokens = zip(logps, mean, std, strict=True)
    return min_k_score([(logp - m) / max(s, SMALLEST_STD) for logp, m, s in tokens], k=k)


def reference_score(logps: Sequence[float], retain_logps: Sequence[float]) -> float:
    """Compute the reference attack (Carlini et al. 2021): ``mean_t logps[t] - mean_t retain_logps[t]``.

    Args:
        logps: Log-probabilities of the answer's tokens in nats, end token included.
        retain_logps: Those of the same answer under the retain model; its tokenizer may split the answer differently.
    """
    return mean_logp(logps) - mean_logp(retain_logps)


def gradient_score(norm: float | None) -> float:
    """Compute the gradient norm attack, ``-||g||_2`` with g the gradient of the mean loss.

    Texts seen in training have a small gradient. In open-unlearning this is ``gradnorm`` with p = 2.

    Args:
        norm: Result of :func:`~meow_lightning.evaluation.gradient.gradient_norms`; ``None`` (not measured) gives NaN.
    """
    return math.nan if norm is None else -norm


def is_under_the_model(likelihoods: Iterable[Likelihood]) -> bool:
    """Whether ``mean`` was computed under the model's own distribution, as Min-K%++ needs, and not uniformly.

    Uniformly over all V entries, ``mean_v log p(v) <= -log V`` for every p (Jensen), and V is at least the largest id
    plus one. Under p it is the negative entropy, which lies above that for any model that has learned something.

    Args:
        likelihoods: Per-token likelihoods of one model.
    """
    answers = list(likelihoods)
    bound = -math.log(1 + max((max(answer.ids, default=0) for answer in answers), default=0))
    return any(mean > bound for answer in answers for mean in answer.mean)


@dataclass(frozen=True, slots=True)
class Attack:
    """A membership inference attack.

    Attributes:
        definition: Definition of its AUC.
        needs: Data required of a row: its mean ``loss``, per-token likelihoods (``tokens``), also their ``spread`` over
            the vocabulary, the norm of its ``gradient``, or the mean losses of this and of the ``retain`` model.
        score: Score of one row; ``None`` if the retain model's row is needed too, see :func:`reference_score`.
    """

    definition: Definition
    needs: Literal["loss", "tokens", "spread", "gradient", "retain"]
    score: Callable[[AnswerRow], float] | None


def _definition(attack: str, seen: str) -> Definition:
    text = (
        f"Probability that an attacker who sees {seen} ranks a random true answer of the forget set above one of the "
        "holdout set as training data (area under the ROC curve, ties count half): 1 means recognised as training "
        "data, .5 means chance; the goal is the retain model's value, not 0."
    )
    name = f"membership/{attack}_auc"
    return Definition(name=name, id=f"membership_{attack}_auc.1", unit="AUC", direction="none", text=text)


def min_k_attack(k: float) -> Attack:
    """Build the attack of :func:`min_k_score`.

    Args:
        k: Share of the tokens, above 0 and at most 1.
    """
    seen = f"the mean log-probability of the least likely {k:.0%} of the tokens"
    return Attack(
        definition=_definition(f"min_k_{100 * k:.0f}", seen),
        needs="tokens",
        score=lambda row: min_k_score(row.truth.logps, k=k),
    )


def min_k_plus_plus_attack(k: float) -> Attack:
    """Build the attack of :func:`min_k_plus_plus_score`.

    Args:
        k: Share of the tokens, above 0 and at most 1.
    """
    seen = f"the least likely {k:.0%} of the tokens, log-probabilities standardised by the model's own distribution"
    return Attack(
        definition=_definition(f"min_k_plus_plus_{100 * k:.0f}", seen),
        needs="spread",
        score=lambda row: min_k_plus_plus_score(row.truth.logps, row.truth.mean, row.truth.std, k=k),
    )


ATTACKS = (
    Attack(
        definition=_definition("loss", "the mean loss"), needs="loss", score=lambda row: loss_score(row.truth.logps)
    ),
    Attack(
        definition=_definition("zlib", "the mean loss per byte of the compressed answer"),
        needs="loss",
        score=lambda row: zlib_score(row.truth.logps, row.answer),
    ),
    *map(min_k_attack, SHARES),
    *map(min_k_plus_plus_attack, SHARES),
    Attack(
        definition=_definition("gradient_norm", "the norm of the loss's gradient with respect to all weights"),
        needs="gradient",
        score=lambda row: gradient_score(row.gradient),
    ),
    Attack(
        definition=_definition("reference", "how much smaller the mean loss is than the retain model's"),
        needs="retain",
        score=None,
    ),
)
"""All reported attacks; a higher score always indicates membership."""
