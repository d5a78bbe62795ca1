"""Selection of the inverted answers of a fact for training, and their layout in rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.types import ScoredText

Strategy = Literal["largest", "smallest", "random"]
Layout = Literal["selected", "official"]
STRATEGIES: tuple[Strategy, ...] = ("largest", "smallest", "random")
LAYOUTS: tuple[Layout, ...] = ("selected", "official")
OFFICIAL_ROWS = 4  # the released collator splits the eight prepared rows of a fact and trains on only one half


def select(scores: Sequence[float], *, k: int, strategy: Strategy, seed: int, fact: str) -> list[int]:
    """Select the positions of k distinct candidates, in order of preference.

    Unlike in MEOW's released code, which looks positions up by score, candidates with equal scores remain distinct;
    ties are broken by position.

    Args:
        scores: MEMO of every candidate of the fact, by position, each 0 to 1, or differences of two models' MEMO.
        k: Number of candidates to select, 1 to the number of candidates.
        strategy: ``largest`` or ``smallest`` MEMO first, or ``random``, which ignores the scores.
        seed: Seed of ``random``; together with the fact it determines the draw, independent of global random state.
        fact: ``Fact.id``.

    Raises:
        UserError: Fewer candidates than k, k below 1, or an unknown strategy.

    """
    check_choice("strategy", strategy, STRATEGIES)
    if not 1 <= k <= len(scores):
        expected = f"an integer from 1 to {len(scores)}, the number of inverted answers of fact {fact}"
        raise invalid_option("k", k, expected, did_you_mean=min(max(k, 1), len(scores)))
    if strategy == "random":
        # A string seeds through SHA-512, so unlike with hash() every process draws the same
        return random.Random(f"{seed}:{fact}").sample(range(len(scores)), k)
    sign = -1.0 if strategy == "largest" else 1.0
    return sorted(range(len(scores)), key=lambda position: (sign * scores[position], position))[:k]


def relative(texts: Sequence[ScoredText], baseline: Sequence[ScoredText]) -> list[ScoredText]:
    """Subtract the scores that a model without the facts gives: ``MEMO(target) - MEMO(baseline)``, -1 to 1.

    The scores of windows are those of the target.

    Args:
        texts: Candidates of any facts with the target model's scores.
        baseline: The same candidates with the baseline's scores, in any order; those without are dropped.
    """
    return [replace(text, score=text.score - score) for text, score in paired(texts, baseline)]


def paired(texts: Sequence[ScoredText], baseline: Sequence[ScoredText]) -> list[tuple[ScoredText, float]]:
    """Pair candidates with their scores under a baseline; arguments as for :func:`relative`."""
    scores = {(text.fact, text.position): text.score for text in baseline}
    return [(text, scores[text.fact, text.position]) for text in texts if (text.fact, text.position) in scores]


def layout(selected: Sequence[int], *, rows: Layout) -> list[int]:
    """Return the candidate position of every training row of one fact.

    Args:
        selected: Result of :func:`select`, at least one position.
        rows: ``selected`` uses each position once; ``official`` gives the four rows of MEOW's released code, row i
            using ``selected[i mod k]``: ranks 0, 1, 2, 0 for k = 3, and only the first four for a larger k.

    Raises:
        UserError: Unknown ``rows``.
        ValueError: ``selected`` is empty.

    """
    check_choice("rows", rows, LAYOUTS)
    if not selected:
        raise ValueError("no candidate is selected")
    if rows == "selected":
        return list(selected)
    return [selected[row % len(selected)] for row in range(OFFICIAL_ROWS)]
