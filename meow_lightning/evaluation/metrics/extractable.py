"""Extractable memorisation: a prefix suffices to recite the rest (Carlini et al. 2023, arXiv 2202.07646)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.exact_memorisation import counted_hits
from meow_lightning.types import AnswerRow


def extractable(hits: Sequence[int]) -> bool:
    """Whether a text is (n, k)-extractable: greedy decoding after its first n tokens gives the next k exactly.

    n is the length of the prompt, k that of the answer without its end token. One teacher-forced pass suffices: greedy
    decoding follows the answer as long as each of its tokens is the argmax.

    Args:
        hits: 1 where a token of the answer is the model's argmax, else 0; the end token's is the last.

    Raises:
        UserError: No token is left after dropping the end token.
    """
    return all(counted_hits(hits))


class Extractable(RowMetric):
    """Share of the true answers of a set that are :func:`extractable`."""

    name = "extractable"
    id = "extractable.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Share of the questions whose greedy answer begins with the true one, token by token (without the end token): "
        "(n, k)-extractable memorisation, n the tokens of the prompt, k those of the answer."
    )
    label = "recited in full"
    order = 82
    needs = frozenset({"tokens"})

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return 1 if one row's true answer is recited in full, else 0; ``None`` for an end token alone."""
        return float(extractable(row.truth.hits)) if len(row.truth.hits) > 1 else None
