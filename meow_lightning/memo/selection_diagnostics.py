"""Diagnostics of selecting inverted answers by MEMO: whether the selection is informative on the given data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from meow_lightning.distributed import group_by
from meow_lightning.memo.select import Strategy, paired, relative, select
from meow_lightning.types import ScoredText

# If ``largest`` and ``smallest`` share this much of their selections, at most a third of the rows differ in a
# comparison of strategies. MEOW's own setting, 3 of 4, lies exactly at this value.
SHARED = 2 / 3
# In MEOW's score files the spread within a fact is .07 to .14 for Llama2-7B, Llama2-13B and Pythia, and .011 and .012
# for Phi-1.5.
SPREAD = 0.02
# With four candidates, a correlation of .6 ranks the wordiest first in half of the facts (simulated with normal
# variables). In MEOW's score files it ranks first in 53 to 55% with Phi-1.5, whose scores correlate with length at .75
# to .87 over all candidates, and in 23 to 43% with Llama2 (.10 to .20); chance would give 25%.
FOLLOWS = 0.6
# With few candidates such a correlation may be chance; for ten facts with four unrelated ones, p is below 1 in 2,000.
PAIRS = 40
# Candidate order then decides the selection in one fact of four. In MEOW's score files at most 4% have any ties.
TIED = 0.25
DIGITS = 9  # scores are means of a few fractions: further decimals are summation error


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike a model that never saw the facts and the target model score the candidates of a fact.

    What both prefer is wording that any model finds easy, not memory of the facts.

    Attributes:
        correlation: Pearson's correlation of the two models' scores, each centred within its fact; ``None`` if
            undefined.
        shared: Overlap of the k candidates with the largest scores of either model, as a share of k, mean over facts.
    """

    correlation: float | None
    shared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Statistics of selecting k candidates per fact by score.

    Attributes:
        facts: Number of facts with candidates.
        candidates: Number of candidates of all facts.
        fewest: Fewest candidates of any fact.
        most: Most candidates of any fact.
        k: Number selected per fact.
        strategy: Selection strategy.
        shared: Overlap of ``largest`` and ``smallest``, as a share of k, mean over facts.
        shared_at_least: Their minimum overlap given the numbers of candidates, as a share of k, mean over facts.
        shared_by_chance: Expected overlap of a random selection with ``largest``, as a share of k, mean over facts.
        wordiest_first: Share of the facts in which the wordiest candidate has the largest score.
        wordiest_by_chance: Its expectation under random scores.
        pearson: Correlation of score and length in words over all candidates; ``None`` if undefined.
        spearman: The same for their ranks.
        pearson_within: Correlation of score and length, each centred within its fact; ``None`` if undefined.
        spearman_within: The same for the ranks of the centred values.
        spread: Largest minus smallest score of a fact, mean over facts, 0 to 1.
        tied: Number of facts in which the last selected and the first unselected score are equal.
        agreement: Agreement with the baseline, whose scores are then subtracted everywhere above; ``None`` without one.
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
    agreement: Agreement | None = None


def selection(
    texts: Sequence[ScoredText], *, k: int, strategy: Strategy, baseline: Sequence[ScoredText] = ()
) -> Selection:
    """Compute the statistics of selecting k candidates per fact.

    Args:
        texts: All candidates of all facts; within a fact, in the order that breaks ties.
        k: Number selected per fact, from 1; facts with fewer candidates use all of them.
        strategy: Selection strategy.
        baseline: The candidates with the scores of ``method.select.baseline``; empty without one.

    Raises:
        ValueError: No candidates.

    """
    if not texts:
        raise ValueError("there are no candidates to select from")
    facts = group_by(relative(texts, baseline) if baseline else texts, key=lambda text: text.fact)
    scores = [[text.score for text in group] for group in facts]
    lengths = [[float(words(text.answer)) for text in group] for group in facts]
    counts = [len(group) for group in scores]
    flat_scores, flat_lengths = [*chain(*scores)], [*chain(*lengths)]
    own_scores, own_lengths = centred(scores), centred(lengths)
    taken = [min(k, count) for count in counts]
    # Integers are summed before dividing, so that a mean of 2/3 is exact to the last bit
    return Selection(
        facts=len(facts), candidates=sum(counts), fewest=min(counts), most=max(counts), k=k, strategy=strategy,
        shared=sum(shared(group, k=n) for group, n in zip(scores, taken, strict=True)) / sum(taken),
        shared_at_least=sum(shared_at_least(count, k=n) for count, n in zip(counts, taken, strict=True)) / sum(taken),
        shared_by_chance=statistics.fmean(n / count for n, count in zip(taken, counts, strict=True)),
        wordiest_first=statistics.fmean(map(wordiest_first, scores, lengths)),
        wordiest_by_chance=statistics.fmean(1 / count for count in counts),
        pearson=pearson(flat_scores, flat_lengths), spearman=spearman(flat_scores, flat_lengths),
        pearson_within=pearson(own_scores, own_lengths), spearman_within=spearman(own_scores, own_lengths),
        spread=statistics.fmean(max(group) - min(group) for group in scores),
        tied=sum(tied(group, k=k, strategy=strategy) for group in scores),
        agreement=agreement(texts, baseline, k=k) if baseline else None,
    )  # fmt: skip


def agreement(texts: Sequence[ScoredText], baseline: Sequence[ScoredText], *, k: int) -> Agreement:
    """Compare the scores of two models for the candidates that both have.

    Args:
        texts: Candidates with the target model's scores.
        baseline: Candidates with the baseline's scores.
        k: Number selected per fact, from 1; of facts with fewer candidates all are selected.
    """
    facts = group_by(paired(texts, baseline), key=lambda pair: pair[0].fact)
    first = [[text.score for text, _ in group] for group in facts]
    second = [[score for _, score in group] for group in facts]
    taken = [min(k, len(group)) for group in first]
    both = (
        len({*_largest(own, n)} & {*_largest(other, n)}) for own, other, n in zip(first, second, taken, strict=True)
    )
    return Agreement(correlation=pearson(centred(first), centred(second)), shared=sum(both) / sum(taken))


def _largest(scores: Sequence[float], k: int) -> list[int]:
    return select(scores, k=k, strategy="largest", seed=0, fact="")


def words(text: str) -> int:
    """Count the blank-separated words of a text."""
    return len(text.split())


def shared(scores: Sequence[float], *, k: int) -> int:
    """Count the candidates of a fact that both strategies select: ``|largest_k ∩ smallest_k|``.

    Without ties this equals :func:`shared_at_least`; any excess is due to ties, which both strategies break by
    position.
    """
    largest = _largest(scores, k)
    smallest = select(scores, k=k, strategy="smallest", seed=0, fact="")
    return len({*largest} & {*smallest})


def shared_at_least(count: int, *, k: int) -> int:
    """Compute the minimum overlap of two selections of k from ``count`` candidates: ``max(0, 2 k - count)``."""
    return max(0, 2 * k - count)


def wordiest_first(scores: Sequence[float], lengths: Sequence[float]) -> float:
    """Return 1 if ``largest`` ranks the wordiest candidate of a fact first, else 0; 1/m if m are equally wordy.

    A random choice among n candidates therefore gives ``1 / n`` on average, however many are equally long.
    """
    (first,) = _largest(scores, 1)
    return 1 / list(lengths).count(max(lengths)) if lengths[first] == max(lengths) else 0.0


def tied(scores: Sequence[float], *, k: int, strategy: Strategy) -> bool:
    """Whether the last selected and the first unselected score tie: ``s_(k) = s_(k+1)`` in the strategy's order.

    Always false for ``random``, which ignores scores, and if every candidate is selected.
    """
    if strategy == "random" or k >= len(scores):
        return False
    order = select(scores, k=k + 1, strategy=strategy, seed=0, fact="")
    return scores[order[k - 1]] == scores[order[k]]


def centred(groups: Sequence[Sequence[float]]) -> list[float]:
    """Subtract the group mean from every value, group by group: ``x_gi - mean_i(x_gi)``."""
    return [value - statistics.fmean(group) for group in groups for value in group]


def pearson(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Compute Pearson's correlation ``sum(dx dy) / sqrt(sum(dx²) sum(dy²))`` with d the deviation from the mean.

    ``None`` for fewer than three pairs or if one side is constant.
    """
    sides = [[round(value, DIGITS) for value in side] for side in (first, second)]
    if len(first) < 3 or any(len(set(side)) < 2 for side in sides):
        return None
    return max(-1.0, min(1.0, statistics.correlation(*sides)))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Compute Spearman's correlation: :func:`pearson` of the :func:`ranks`; ``None`` if undefined."""
    return pearson(ranks(first), ranks(second))


def ranks(values: Sequence[float]) -> list[float]:
    """Rank the values from 1; ties get the mean of their ranks."""
    rounded = [round(value, DIGITS) for value in values]
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(rounded), start=1):
        places.setdefault(value, []).append(place)
    return [(places[value][0] + places[value][-1]) / 2 for value in rounded]


def warnings(stats: Selection) -> list[str]:
    """Warn about an uninformative selection, one sentence each; empty if there are no warnings.

    The scores do not matter if every candidate is selected or the selection is random.
    """
    if stats.k >= stats.most:
        return [
            f"selecting k={stats.k} of {per_fact(stats)} candidates: all are selected, so MEMO has no influence; "
            "write more candidates per fact or use a smaller k"
        ]
    sentences = [_count(stats)]
    if stats.strategy != "random":
        sentences += [_ties(stats), _spread(stats), _length(stats), _wording(stats)]
    return [sentence for sentence in sentences if sentence]


def per_fact(stats: Selection) -> str:
    """Format the number of candidates per fact, as one number or a range."""
    return str(stats.most) if stats.fewest == stats.most else f"{stats.fewest} to {stats.most}"


def _count(stats: Selection) -> str:
    if min(stats.shared, stats.shared_at_least) < SHARED:
        return ""
    return (
        f"selecting k={stats.k} of {per_fact(stats)} candidates: largest and smallest share {_of_k(stats)}, so the "
        "strategy makes hardly any difference; write more candidates per fact or use a smaller k"
    )


def _ties(stats: Selection) -> str:
    same = stats.shared >= SHARED > stats.shared_at_least  # overlap beyond the minimum is due to ties
    if stats.tied < TIED * stats.facts and not same:
        return ""
    return (
        f"in {stats.tied} of {stats.facts} facts the last selected and the first unselected candidate have equal "
        f"scores, so their order decided instead of MEMO (largest and smallest share {_of_k(stats)}); write candidates "
        "that differ more"
    )


def _of_k(stats: Selection) -> str:
    return f"{stats.shared * stats.k:.1f} of {stats.k}"


def _spread(stats: Selection) -> str:
    if stats.spread >= SPREAD:
        return ""
    return (
        f"MEMO hardly distinguishes the candidates of a fact: largest and smallest score differ by {stats.spread:.3f} "
        f"on average (expected: at least {SPREAD}); check that the model gets the prompt it was trained with and ends "
        "its answers, or write candidates that differ more"
    )


def _length(stats: Selection) -> str:
    correlation = stats.pearson_within
    if correlation is None or abs(correlation) < FOLLOWS or stats.candidates < PAIRS:
        return ""
    ends = ", or check that the model ends its answers" if correlation > 0 else ""
    return (
        f"scores follow length: within a fact MEMO and the number of words correlate by {correlation:.2f}, and the "
        f"wordiest candidate scores highest in {stats.wordiest_first:.0%} of the facts (by chance "
        f"{stats.wordiest_by_chance:.0%}), so MEMO ranks by length rather than memory; write candidates of "
        f"similar length{ends}"
    )


def _wording(stats: Selection) -> str:
    found = stats.agreement
    if found is None or found.correlation is None or found.correlation < FOLLOWS or stats.candidates < PAIRS:
        return ""
    return (
        f"a model that never saw the facts scores the candidates of a fact alike (correlation {found.correlation:.2f}; "
        f"it prefers {found.shared * stats.k:.1f} of the target's {stats.k}, by chance "
        f"{stats.shared_by_chance * stats.k:.1f}), so MEMO by itself ranks wording rather than memory; its scores are "
        "subtracted, as method.select.baseline asks"
    )
