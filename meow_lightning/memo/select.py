"""Which inverted answers of a fact are trained on, and in how many rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from meow_lightning.errors import UserError, check_choice

Strategy = Literal["largest", "smallest", "random"]
Layout = Literal["selected", "official"]
STRATEGIES: tuple[Strategy, ...] = ("largest", "smallest", "random")
LAYOUTS: tuple[Layout, ...] = ("selected", "official")
OFFICIAL_ROWS = 4  # the released collator cuts the eight prepared rows of a fact in half and trains on one half only


def select(scores: Sequence[float], *, k: int, strategy: Strategy, seed: int, fact: str) -> list[int]:
    """Positions of k distinct candidates, the most wanted one first.

    Unlike MEOW's released code, which looks positions up by score, candidates of equal score stay different candidates:
    the earlier position goes first.

    Args:
        scores: MEMO of every candidate of the fact, by position, each 0 to 1.
        k: How many candidates are wanted, 1 to the number of candidates.
        strategy: ``largest`` or ``smallest`` MEMO first, or ``random`` without looking at the scores.
        seed: Seed of ``random``; together with the fact it fixes the draw, whatever else is drawn in the program.
        fact: ``Fact.id``.

    Raises:
        UserError: Fewer candidates than k, k below 1, or an unknown strategy.

    """
    check_choice("strategy", strategy, STRATEGIES)
    if k < 1:
        raise UserError(f"k={k} selects nothing for fact {fact}; allowed: 1 to {len(scores)}. Nearest: set k=1")
    if k > len(scores):
        raise UserError(
            f"k={k} candidates are wanted for fact {fact}, which has {len(scores)}; "
            f"make more inverted answers for it or set k={len(scores)} or lower"
        )
    if strategy == "random":
        # a text seeds through SHA-512, so unlike hash() every process draws the same; the global generator is left be
        return random.Random(f"{seed}:{fact}").sample(range(len(scores)), k)
    sign = -1.0 if strategy == "largest" else 1.0
    return sorted(range(len(scores)), key=lambda position: (sign * scores[position], position))[:k]


def layout(selected: Sequence[int], *, rows: Layout) -> list[int]:
    """The candidate position of every row that is trained for one fact.

    Args:
        selected: What :func:`select` returned, at least one position.
        rows: ``selected`` trains each of them once; ``official`` makes the four rows that MEOW's released code trains,
            row i taking ``selected[i mod k]``: ranks 0, 1, 2, 0 for k = 3, and no more than four for a larger k.

    Raises:
        UserError: Unknown ``rows``.
        ValueError: Nothing is selected.

    """
    check_choice("rows", rows, LAYOUTS)
    if not selected:
        raise ValueError("no candidate is selected: there is nothing to lay out")
    if rows == "selected":
        return list(selected)
    return [selected[row % len(selected)] for row in range(OFFICIAL_ROWS)]
