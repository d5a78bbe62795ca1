"""Exact memorisation: share of the true answer's tokens predicted greedily (Tirumala et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.errors import UserError
from meow_lightning.types import AnswerRow, Definition, Likelihood

DEFINITION = Definition(
    name="exact_memorisation",
    id="exact_memorisation.1",
    unit="share",
    direction="higher",
    text="Mean over the questions of the share of the true answer's tokens (without the end token) that are the "
    "model's argmax given the true tokens before them.",
)


def has_tokens(likelihood: Likelihood) -> bool:
    """Whether a likelihood has per-token values; a published log holds only one mean loss per answer.

    Args:
        likelihood: Likelihood of one answer.
    """
    return 0 < len(likelihood.logps) == len(likelihood.hits) == len(likelihood.mean) == len(likelihood.std)


def counted_hits(hits: Sequence[int]) -> Sequence[int]:
    """Return the per-token hits of the answer without the end token.

    Nearly every model predicts the end token after the final full stop, so counting it would give 1 / T to a model that
    recalls nothing. open-unlearning leaves it out too.

    Args:
        hits: 1 where a token of the answer is the model's argmax, else 0; the end token's is the last.

    Raises:
        UserError: No token is left.
    """
    counted = hits[:-1]
    if len(counted) == 0:
        raise UserError(
            f"expected an answer of at least 1 token besides the end token, given {len(hits)} scored tokens: remove "
            "empty answers from the dataset"
        )
    return counted


def exact_memorisation(hits: Sequence[int]) -> float:
    """Compute exact memorisation of one answer, ``sum_t 1[argmax_v p(v | q, a_<t) = a_t] / T``, 0 to 1.

    Source: M(f) of Tirumala et al. 2022. The end token is left out.

    Args:
        hits: 1 where a token of the answer is the model's argmax, else 0; the end token's is the last.

    Raises:
        UserError: No token is left after dropping the end token.
    """
    counted = counted_hits(hits)
    return sum(counted) / len(counted)


def row_exact_memorisation(row: AnswerRow) -> float:
    """Compute exact memorisation of one row's true answer without its end token, 0 to 1.

    Args:
        row: Prediction row with per-token likelihoods.
    """
    return exact_memorisation(row.truth.hits)
