"""Extraction strength: how short a prefix suffices to recite the rest (Carlini et al. 2021; Wang et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.evaluation.metrics.exact_memorisation import counted_hits
from meow_lightning.types import AnswerRow


def extraction_strength(hits: Sequence[int]) -> float:
    """Compute ``1 - min{k : hits_t = 1 for all t >= k} / T``, 0 to 1.

    k = 0 .. T is the number of tokens shown; the end token is left out.

    Greedy decoding after k true tokens reproduces the rest exactly if every remaining token is the argmax, so one
    teacher-forced pass suffices. k = T (everything shown) always holds and gives 0. open-unlearning stops at k = T - 1
    and therefore gives 1 / T where nothing matches.

    Args:
        hits: 1 where a token of the answer is the model's argmax, else 0; the end token's is the last.

    Raises:
        UserError: No token is left after dropping the end token.
    """
    counted = counted_hits(hits)
    misses = [position for position, hit in enumerate(counted) if not hit]
    shown = misses[-1] + 1 if misses else 0
    return (len(counted) - shown) / len(counted)


class ExtractionStrength(RowMetric):
    """Mean of :func:`extraction_strength` over the true answers of a set."""

    name = "extraction_strength"
    id = "extraction_strength.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        "Mean over the questions of the share of the true answer (its last tokens, without the end token) that the "
        "model generates verbatim, given the question and the tokens before."
    )
    label = "extraction strength"
    order = 80
    needs = frozenset({"tokens"})

    def value(self, row: AnswerRow, context: RowContext) -> float:
        """Compute extraction strength of one row's true answer, 0 to 1."""
        return extraction_strength(row.truth.hits)
