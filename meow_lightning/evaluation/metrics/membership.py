"""Membership inference attacks on the forget set against held-out texts (Shi et al. 2024 and others)."""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.answers import Answers, MetricSettings, Need, unmet_need
from meow_lightning.evaluation.metric import AFTER_SETS, Outcome, RunMetric
from meow_lightning.evaluation.metrics.forget_quality import check_same_questions
from meow_lightning.evaluation.metrics.probability import mean_logp
from meow_lightning.types import AnswerRow, Definition, Likelihood, SetInfo

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A membership inference attack; a higher score always indicates membership.

    Attributes:
        name: Name of the attack.
        seen: What the attacker sees, for the definition.
        label: Short readable name.
        needs: What it needs of a row besides its mean loss.
        spread: Whether it also needs mean and deviation under the model's own distribution.
        score: Score of one row; ``None`` if the retain model's row is needed too, see :func:`reference_score`.
    """

    name: str
    seen: str
    label: str
    needs: frozenset[Need] = frozenset()
    spread: bool = False
    score: Callable[[AnswerRow], float] | None

    @property
    def number(self) -> str:
        """Name of its AUC in results."""
        return f"membership/{self.name}_auc"


def min_k_attack(k: float) -> Attack:
    """Build the attack of :func:`min_k_score`.

    Args:
        k: Share of the tokens, above 0 and at most 1.
    """
    return Attack(
        name=f"min_k_{100 * k:.0f}",
        seen=f"the mean log-probability of the least likely {k:.0%} of the tokens",
        label=f"Min-{k:.0%}",
        needs=frozenset({"tokens"}),
        score=lambda row: min_k_score(row.truth.logps, k=k),
    )


def min_k_plus_plus_attack(k: float) -> Attack:
    """Build the attack of :func:`min_k_plus_plus_score`.

    Args:
        k: Share of the tokens, above 0 and at most 1.
    """
    return Attack(
        name=f"min_k_plus_plus_{100 * k:.0f}",
        seen=f"the least likely {k:.0%} of the tokens, log-probabilities standardised by the model's own distribution",
        label=f"Min-{k:.0%}++",
        needs=frozenset({"tokens"}),
        spread=True,
        score=lambda row: min_k_plus_plus_score(row.truth.logps, row.truth.mean, row.truth.std, k=k),
    )


ATTACKS = (
    Attack(name="loss", seen="the mean loss", label="loss", score=lambda row: loss_score(row.truth.logps)),
    Attack(
        name="zlib",
        seen="the mean loss per byte of the compressed answer",
        label="loss and zlib",
        score=lambda row: zlib_score(row.truth.logps, row.answer),
    ),
    *map(min_k_attack, SHARES),
    *map(min_k_plus_plus_attack, SHARES),
    Attack(
        name="gradient_norm",
        seen="the norm of the loss's gradient with respect to all weights",
        label="the gradient's norm",
        needs=frozenset({"gradient"}),
        score=lambda row: gradient_score(row.gradient),
    ),
    Attack(
        name="reference",
        seen="how much smaller the mean loss is than the retain model's",
        label="loss against the retain model",
        needs=frozenset({"retain"}),
        score=None,
    ),
)
"""All reported attacks."""


class Membership(RunMetric):
    """AUC of every attack in :data:`ATTACKS` that tells the forget set from the holdout set."""

    needs = frozenset().union(*(attack.needs for attack in ATTACKS))

    def reads(self, sets: Sequence[SetInfo]) -> list[SetInfo]:
        """Select the forget and the holdout set; none if either is missing."""
        first = [next((info for info in sets if info.purpose == purpose), None) for purpose in ("forget", "holdout")]
        return [] if None in first else [info for info in first if info is not None]

    def definitions(self, sets: Sequence[SetInfo], settings: MetricSettings) -> list[Definition]:
        """Define the AUC of every attack."""
        return [
            Definition(
                name=attack.number, id=f"membership_{attack.name}_auc.1", unit="AUC", direction="none",
                text=f"Probability that an attacker who sees {attack.seen} ranks a random true answer of the forget "
                "set above one of the holdout set as training data (area under the ROC curve, ties count half): 1 "
                "means recognised as training data, .5 means chance; the goal is the retain model's value, not 0.",
                label=f"membership by {attack.label}", order=AFTER_SETS + 200 + 10 * position, main=False,
            )
            for position, attack in enumerate(ATTACKS)
        ]  # fmt: skip

    def outcomes(self, answers: Answers, role: str, numbers: Mapping[str, Outcome]) -> dict[str, Outcome]:
        """Compute the AUC of every attack on one model.

        Raises:
            UserError: This and the retain model answered different questions.
        """
        return {attack.number: attack_auc(answers, role, attack) for attack in ATTACKS}


def attack_auc(answers: Answers, role: str, attack: Attack) -> Outcome:
    """Compute the AUC of an attack on one model, or the reason why it is missing.

    Args:
        answers: Answers of all models.
        role: Role of the model.
        attack: The attack.

    Raises:
        UserError: The attack needs the retain model, which answered different questions.
    """
    names = [answers.of_purpose("forget"), answers.of_purpose("holdout")]
    if reason := _missing_reason(answers, role, attack, names):
        return f"not measured: {reason}"
    sides = [answers.sets[role][name] for name in names]
    if attack.spread and not is_under_the_model(row.truth for rows in sides for row in rows):
        return (
            "not measured: the stored predictions have mean and standard deviation over the vocabulary with equal "
            "weights, and Min-K%++ needs them under the model's own distribution: run the stage `predict` again"
        )
    scores = [_scores(answers, role, attack, rows) for rows in sides]
    invalid = sum(math.isnan(score) for side in scores for score in side)
    if invalid:
        total = sum(map(len, scores))
        return f"not measured: {invalid} of {total} scores of the {role} model are NaN; did training diverge?"
    return auc(*scores)


def _missing_reason(answers: Answers, role: str, attack: Attack, names: Sequence[str]) -> str:
    """Explain why an attack on a model is not possible; empty if it is."""
    if reason := answers.missing_reason(role, None):
        return reason
    if names[1] not in {info.name for info in answers.present}:
        return f"the dataset has no set {names[1]!r}: questions like the forget set's that no model was trained on"
    return next((reason for name in names if (reason := unmet_need(answers, role, name, attack.needs))), "")


def _scores(answers: Answers, role: str, attack: Attack, rows: Sequence[AnswerRow]) -> list[float]:
    published = answers.settings.formulas.attack_score
    if attack.score is not None:
        return [attack.score(row) if published is None else published(attack, row) for row in rows]
    retain = answers.sets["retain"][rows[0].set]
    check_same_questions(rows, retain, names=(role, "retain"))
    return [reference_score(row.truth.logps, other.truth.logps) for row, other in zip(rows, retain, strict=True)]
