"""Terms that several methods share: log-ratios to the start model, preferences over them, staying near a model."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from meow_lightning.errors import UserError
from meow_lightning.methods.losses import kl_divergence, rows_with_targets
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.types import LossPart, TokenBatch

if TYPE_CHECKING:
    import torch


def check_beta(beta: float) -> float:
    """Beta itself: how sharply a preference turns, per nat.

    Raises:
        UserError: When it is not above 0.
    """
    if not 0 < beta < inf:
        raise UserError(
            f"method.beta={beta} is out of range; allowed: above 0, such as 0.1 (published code: 0.1 to 4.5)"
        )
    return beta


def log_ratio(model: torch.nn.Module, rows: TokenBatch, start: torch.nn.Module | None) -> torch.Tensor:
    """Shape (B,): log p(answer | prompt) - log p_start(answer | prompt) of every row, in nats.

    Args:
        model: What is trained.
        rows: Rows of one stream.
        start: The start model where a method holds it; else what it said stands in ``TokenBatch.ref_logps_B``.
    """
    logps_B = answer_logps(model, rows)  # noqa: N806
    known_B = rows.ref_logps_B if start is None else answer_logps(start, rows)  # noqa: N806
    # What is kept is float64: near the start two large numbers differ by little.
    return (logps_B - known_B).to(logps_B.dtype)


def preference_loss(margin_B: torch.Tensor, rows: TokenBatch, *, beta: float, stream: str, weight: float) -> LossPart:  # noqa: N803
    """What a margin costs, a part per row: weight * (2 / beta) * mean over rows of -log sigmoid(beta * margin).

    The factor 2 / beta is NPO's (arXiv 2404.05868): a row's gradient by its margin is -2 sigmoid(-beta * margin), so it
    starts at -1 whatever beta is. For beta -> 0 the term falls linearly with the margin (less the constant
    (2 / beta) log 2); for beta -> infinity a positive margin costs nothing and a negative one twice its size.

    Args:
        margin_B: What should grow, in nats.
        rows: The rows it belongs to; a blank one counts as 0.
        beta: Above 0, per nat.
        stream: The stream whose rows are the denominator.
        weight: The part's weight besides 2 / beta.
    """
    from torch.nn.functional import logsigmoid

    cost_B = -logsigmoid(beta * margin_B) * rows_with_targets(rows)  # noqa: N806
    return LossPart(sum=cost_B.sum(), stream=stream, per="row", weight=weight * 2 / beta)


def start_kl(
    model: torch.nn.Module, reference: torch.nn.Module | None, rows: TokenBatch, *, stream: str, weight: float
) -> LossPart:
    """How far the model went from the start model on the answers of one stream, a part per token.

    L = weight * (1 / n) * sum over scored tokens of KL(p_start || p), n = scored tokens of the global batch.

    Published code takes prompts and padding in and divides by all positions (TOFU, open-unlearning, MEOW), so there the
    term shrinks with the padding of a batch.

    Raises:
        TypeError: When there is no start model.
    """
    if reference is None:
        raise TypeError(f"the divergence on {stream} needs the start model: the method's reference must be 'model'")
    return LossPart(sum=kl_divergence(model, reference, rows), stream=stream, per="token", weight=weight)
