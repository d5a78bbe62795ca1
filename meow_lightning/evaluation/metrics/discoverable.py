"""Discoverable extraction: how many random answers it takes until one is the true answer (Hayes et al. 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from meow_lightning.errors import invalid_option
from meow_lightning.evaluation.answers import RowContext
from meow_lightning.evaluation.metric import RowMetric
from meow_lightning.types import AnswerRow

DRAWS = 100
"""n of the reported metric: answers that an attacker samples per question."""

CHANCE = 0.9
"""p of the reported metric: probability that one of them is the true answer."""


def draws_needed(logps: Sequence[float], *, p: float) -> float:
    """Compute the least n for which n sampled answers contain the true one with probability p: ``(n, p)``-discoverable.

        n >= log(1 - p) / log(1 - p_z),   p_z = exp(sum_t logps[t])

    p_z is the probability of sampling exactly these tokens at temperature 1 without top-k or top-p, so stored
    log-probabilities suffice. Source: Hayes et al. 2025 (arXiv 2410.19482), who also sample with top-k 40, where p_z is
    larger.

    Args:
        logps: log p(token | earlier tokens) of the answer's tokens in nats, without the end token.
        p: Probability above 0 and below 1.

    Returns:
        At least 1; infinity if p_z or the result exceeds double precision, NaN if a log-probability is NaN.

    Raises:
        UserError: ``p`` is out of range.
    """
    if not 0 < p < 1:
        raise invalid_option("p", p, "a number above 0 and below 1", did_you_mean=CHANCE)
    p_z = math.exp(math.fsum(logps))
    if p_z == 0 or math.isnan(p_z):
        return math.inf if p_z == 0 else math.nan
    if p_z >= 1:  # rounding
        return 1.0
    draws = math.log1p(-p) / math.log1p(-p_z)
    # the 1e-9 absorbs rounding: p_z = .5 and p = .75 must give 2
    return draws if math.isinf(draws) else max(1.0, math.ceil(draws - 1e-9))


class Discoverable(RowMetric):
    """Share of the true answers of a set that are ``(DRAWS, CHANCE)``-discoverable, see :func:`draws_needed`."""

    name = "discoverable"
    id = "discoverable.1"
    direction = "higher"
    direction_when_forgotten = "lower"
    text = (
        f"Share of the questions of which {DRAWS} sampled answers (temperature 1, all tokens) begin with the true one, "
        f"word for word, with a probability of at least {CHANCE:.0%}; the greedy answer may miss it all the same."
    )
    label = f"true answer among {DRAWS} samples"
    order = 85
    needs = frozenset({"tokens"})

    def value(self, row: AnswerRow, context: RowContext) -> float | None:
        """Return 1 if the true answer is discoverable, else 0; ``None`` if it is nothing but an end token."""
        logps = row.truth.logps[:-1]
        if len(logps) == 0:
            return None
        draws = draws_needed(logps, p=CHANCE)
        return math.nan if math.isnan(draws) else float(draws <= DRAWS)  # NaN is reported, not taken for forgotten
