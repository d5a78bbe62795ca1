"""Loss terms shared by several methods: log-ratios to the start model, preference losses, KL to the start model."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from meow_lightning.errors import invalid_option
from meow_lightning.methods.losses import kl_divergence, rows_with_targets
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.types import LossPart, TokenBatch

if TYPE_CHECKING:
    import torch


def check_beta(beta: float) -> float:
    """Return beta, the sharpness of a preference, per nat.

    Raises:
        UserError: It is not a finite number above 0.
    """
    if not 0 < beta < inf:
        raise invalid_option("method.beta", beta, "a finite number above 0 (published code: 0.1 to 4.5)")
    return beta


def log_ratio(model: torch.nn.Module, rows: TokenBatch, start: torch.nn.Module | None) -> torch.Tensor:
    """Compute log p(answer | prompt) - log p_start(answer | prompt) per row, shape (B,), in nats.

    Args:
        model: The model in training.
        rows: Rows of one stream.
        start: The start model; ``None`` to use its precomputed log-probabilities, ``TokenBatch.ref_logps_B``.
    """
    logps_B = answer_logps(model, rows)  # noqa: N806
    ref_B = rows.ref_logps_B if start is None else answer_logps(start, rows)  # noqa: N806
    # ref_logps_B is float64: near the start model, two large numbers differ by little.
    return (logps_B - ref_B).to(logps_B.dtype)


def preference_loss(margin_B: torch.Tensor, rows: TokenBatch, *, beta: float, stream: str, weight: float) -> LossPart:  # noqa: N803
    """Preference loss of a margin, per row: weight * (2 / beta) * mean over rows of -log sigmoid(beta * margin).

    The factor 2 / beta is that of NPO (arXiv 2404.05868): a row's gradient with respect to its margin is
    -2 sigmoid(-beta * margin), so it starts at -1 for any beta. For beta -> 0 the term is linear in the margin (up to
    the constant (2 / beta) log 2); for beta -> infinity a positive margin costs 0 and a negative one 2 |margin|.

    Args:
        margin_B: The margin to increase, in nats.
        rows: The corresponding rows; a blank one contributes 0.
        beta: Above 0, per nat.
        stream: The stream that provides the denominator.
        weight: Weight of the part, besides 2 / beta.
    """
    from torch.nn.functional import logsigmoid

    cost_B = -logsigmoid(beta * margin_B) * rows_with_targets(rows)  # noqa: N806
    return LossPart(sum=cost_B.sum(), stream=stream, per="row", weight=weight * 2 / beta, rows=cost_B)


def start_kl(
    model: torch.nn.Module, reference: torch.nn.Module | None, rows: TokenBatch, *, stream: str, weight: float
) -> LossPart:
    """KL divergence from the start model on one stream's answers, per token.

    L = weight * (1 / n) * sum over scored tokens of KL(p_start || p), n = scored tokens of the global batch.

    Published code includes prompts and padding and divides by all positions (TOFU, open-unlearning, MEOW), so its term
    shrinks as a batch is padded.

    Raises:
        TypeError: ``reference`` is ``None``.
    """
    if reference is None:
        raise TypeError(f"the divergence on {stream} needs the start model: the method's reference must be 'model'")
    return LossPart(sum=kl_divergence(model, reference, rows), stream=stream, per="token", weight=weight)
