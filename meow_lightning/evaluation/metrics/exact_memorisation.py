"""Exact memorisation: share of the true answer's tokens predicted greedily (Tirumala et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.errors import UserError
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow


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


class ExactMemorisation(RowMetric):
    """Mean of :func:`exact_memorisation` over the true answers of a set."""

    name = "exact_memorisation"
    id = "exact_memorisation.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Mean over the questions of the share of the true answer's tokens (without the end token) that are the "
        "model's argmax given the true tokens before them."
    )
    label = "exact memorisation"
    order = 70
    needs = frozenset({"tokens"})

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute exact memorisation of one row's true answer, 0 to 1."""
        return exact_memorisation(row.truth.hits)
