"""Whether choosing inverted answers by MEMO says anything on the data at hand: figures, and sentences where not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from meow_lightning.memo.select import Strategy, select
from meow_lightning.types import ScoredText

# Largest and smallest sharing this much of what they take means that a comparison of strategies sees at most a third of
# the rows differ. MEOW's own setting, 3 of 4, lies exactly there.
SHARED = 2 / 3
# MEOW's score files: Llama2-7B, Llama2-13B and Pythia spread by .07 to .14 within a fact, Phi-1.5 by .011 and .012.
SPREAD = 0.02
# Of four candidates, a correlation of .6 puts the wordiest first in half of the facts (drawn from normal variables).
# In MEOW's score files it comes first in 53 to 55% with Phi-1.5, whose scores follow length by .75 to .87 over all
# candidates, and in 23 to 43% with Llama2, whose scores do so by .10 to .20; by chance it would in 25%.
FOLLOWS = 0.6
# Of few candidates such a correlation may be chance; of ten facts with four unrelated ones it is less than 1 in 2,000.
PAIRS = 40
# The order then decided a candidate in one fact of four. In MEOW's score files at most 4% hold equal scores at all.
TIED = 0.25
DIGITS = 9  # scores are means of a few fractions: what is further behind the point comes from adding them up


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the scores of candidates say about a choice of k of them per fact.

    Attributes:
        facts: Facts that have candidates.
        candidates: Candidates of all facts together.
        fewest: Candidates of the fact that has the fewest.
        most: Candidates of the fact that has the most.
        k: How many are taken per fact.
        strategy: Which are taken.
        shared: What ``largest`` and ``smallest`` both take, as a share of k, mean over the facts.
        shared_at_least: What they must share by count alone, as a share of k, mean over the facts.
        shared_by_chance: What a random choice shares with ``largest``, as a share of k, expected, mean over the facts.
        wordiest_first: Share of the facts in which the largest score goes to the wordiest candidate.
        wordiest_by_chance: The same, expected, were scores drawn by lot.
        pearson: Correlation of score and length in words over all candidates; ``None`` where it is undefined.
        spearman: The same of their ranks.
        pearson_within: Correlation of score and length, each less its mean over the fact; ``None`` where undefined.
        spearman_within: The same of the ranks of these differences.
        spread: Largest less smallest score of a fact, mean over the facts, 0 to 1.
        tied: Facts in which the last score taken equals the first one left, so that the order of positions decided.
    """

    facts: int
    candidates: int
    fewest: int
    most: int
    k: int
    strategy: Strategy
    shared: float
    shared_at_least: float
    shared_by_chance: float
    wordiest_first: float
    wordiest_by_chance: float
    pearson: float | None
    spearman: float | None
    pearson_within: float | None
    spearman_within: float | None
    spread: float
    tied: int


def selection(texts: Sequence[ScoredText], *, k: int, strategy: Strategy) -> Selection:
    """The figures of a choice of k candidates per fact.

    Args:
        texts: Every candidate of every fact, those of a fact in the order in which equal scores are taken.
        k: How many are taken per fact, from 1; all of a fact that has fewer.
        strategy: Which are taken.

    Raises:
        ValueError: Without candidates.

    """
    if not texts:
        raise ValueError("there are no candidates to select from")
    facts: dict[str, list[ScoredText]] = {}
    for text in texts:
        facts.setdefault(text.fact, []).append(text)
    scores = [[text.score for text in held] for held in facts.values()]
    lengths = [[float(words(text.answer)) for text in held] for held in facts.values()]
    counts = [len(held) for held in scores]
    flat_scores, flat_lengths = [*chain(*scores)], [*chain(*lengths)]
    own_scores, own_lengths = centred(scores), centred(lengths)
    taken = [min(k, count) for count in counts]
    # whole numbers are added before they are divided, so that a mean of 2/3 is 2/3 to the last bit
    return Selection(
        facts=len(facts), candidates=sum(counts), fewest=min(counts), most=max(counts), k=k, strategy=strategy,
        shared=sum(shared(held, k=n) for held, n in zip(scores, taken, strict=True)) / sum(taken),
        shared_at_least=sum(shared_at_least(count, k=n) for count, n in zip(counts, taken, strict=True)) / sum(taken),
        shared_by_chance=statistics.fmean(n / count for n, count in zip(taken, counts, strict=True)),
        wordiest_first=statistics.fmean(map(wordiest_first, scores, lengths)),
        wordiest_by_chance=statistics.fmean(1 / count for count in counts),
        pearson=pearson(flat_scores, flat_lengths), spearman=spearman(flat_scores, flat_lengths),
        pearson_within=pearson(own_scores, own_lengths), spearman_within=spearman(own_scores, own_lengths),
        spread=statistics.fmean(max(held) - min(held) for held in scores),
        tied=sum(tied(held, k=k, strategy=strategy) for held in scores),
    )  # fmt: skip


def words(text: str) -> int:
    """The length of a text in words: what stands between blanks."""
    return len(text.split())


def shared(scores: Sequence[float], *, k: int) -> int:
    """How many candidates of a fact both strategies take: ``|largest_k ∩ smallest_k|``.

    Without equal scores this is :func:`shared_at_least`; whatever is beyond it comes from ties, which both strategies
    break by position.
    """
    largest = select(scores, k=k, strategy="largest", seed=0, fact="")
    smallest = select(scores, k=k, strategy="smallest", seed=0, fact="")
    return len({*largest} & {*smallest})


def shared_at_least(count: int, *, k: int) -> int:
    """How many of ``count`` candidates any two choices of k have in common: ``max(0, 2 k - count)``."""
    return max(0, 2 * k - count)


def wordiest_first(scores: Sequence[float], lengths: Sequence[float]) -> float:
    """1 when ``largest`` takes the wordiest candidate of a fact first, else 0; 1/m where it is one of m wordiest.

    So a choice by lot comes to ``1 / n`` of n candidates, however many are equally long.
    """
    (first,) = select(scores, k=1, strategy="largest", seed=0, fact="")
    return 1 / list(lengths).count(max(lengths)) if lengths[first] == max(lengths) else 0.0


def tied(scores: Sequence[float], *, k: int, strategy: Strategy) -> bool:
    """Whether the last score taken equals the first one left: ``s_(k) = s_(k+1)`` in the order of the strategy.

    Never with ``random``, which does not look at scores, nor where every candidate is taken.
    """
    if strategy == "random" or k >= len(scores):
        return False
    order = select(scores, k=k + 1, strategy=strategy, seed=0, fact="")
    return scores[order[k - 1]] == scores[order[k]]


def centred(groups: Sequence[Sequence[float]]) -> list[float]:
    """All values less the mean of their group, one group after the other: ``x_gi - mean_i(x_gi)``."""
    return [value - statistics.fmean(group) for group in groups for value in group]


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's correlation ``sum(dx dy) / sqrt(sum(dx²) sum(dy²))``, where d is the difference from the mean.

    ``None`` for fewer than three pairs, or where one side is constant.
    """
    sides = [[round(value, DIGITS) for value in side] for side in (first, second)]
    if len(first) < 3 or any(len(set(side)) < 2 for side in sides):
        return None
    return max(-1.0, min(1.0, statistics.correlation(*sides)))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation: :func:`pearson` of the :func:`ranks`; ``None`` where that is undefined."""
    return pearson(ranks(first), ranks(second))


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1, equal values all taking the mean of their ranks."""
    rounded = [round(value, DIGITS) for value in values]
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(rounded), start=1):
        places.setdefault(value, []).append(place)
    return [(places[value][0] + places[value][-1]) / 2 for value in rounded]


def warnings(found: Selection) -> list[str]:
    """Why the choice says little on this data, a sentence each; empty where it may say something.

    What the scores are like is of no account where every candidate is taken, or where they are drawn by lot.
    """
    if found.k >= found.most:
        return [
            f"choosing k={found.k} of {per_fact(found)} candidates: all are taken and MEMO chooses nothing; "
            "write more candidates per fact or take a smaller k"
        ]
    said = [_count(found)]
    if found.strategy != "random":
        said += [_ties(found), _spread(found), _length(found)]
    return [sentence for sentence in said if sentence]


def per_fact(found: Selection) -> str:
    """The candidates per fact as one number or a range."""
    return str(found.most) if found.fewest == found.most else f"{found.fewest} to {found.most}"


def _count(found: Selection) -> str:
    if min(found.shared, found.shared_at_least) < SHARED:
        return ""
    return (
        f"choosing k={found.k} of {per_fact(found)} candidates: largest and smallest share {_of_k(found)}, so hardly "
        "anything hangs on the strategy; write more candidates per fact or take a smaller k"
    )


def _ties(found: Selection) -> str:
    same = found.shared >= SHARED > found.shared_at_least  # beyond what count alone makes them share, ties do
    if found.tied < TIED * found.facts and not same:
        return ""
    return (
        f"in {found.tied} of {found.facts} facts the last candidate taken scores the same as the first one left, so "
        f"their order decided instead of MEMO (largest and smallest share {_of_k(found)}); write candidates that "
        "differ more"
    )


def _of_k(found: Selection) -> str:
    return f"{found.shared * found.k:.1f} of {found.k}"


def _spread(found: Selection) -> str:
    if found.spread >= SPREAD:
        return ""
    return (
        f"MEMO hardly tells the candidates of a fact apart: largest and smallest score differ by {found.spread:.3f} on "
        f"average (at least {SPREAD} is wanted); see that the model answers in the prompt it was trained with and ends "
        "its answers, or write candidates that differ more"
    )


def _length(found: Selection) -> str:
    follows = found.pearson_within
    if follows is None or abs(follows) < FOLLOWS or found.candidates < PAIRS:
        return ""
    ends = ", or see that the model ends its answers" if follows > 0 else ""
    return (
        f"scores follow length: within a fact MEMO and the number of words correlate by {follows:.2f}, and the "
        f"wordiest candidate scores highest in {found.wordiest_first:.0%} of the facts (by chance "
        f"{found.wordiest_by_chance:.0%}), so MEMO ranks by length rather than memory; write candidates of like "
        f"length{ends}"
    )
