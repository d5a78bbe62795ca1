"""Sampling attack: many random answers per question, leak@k and upper bounds on the expected leak."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

from meow_lightning.attacks.extraction import (
    Attempt,
    Attempts,
    ExtractionAttack,
    ExtractionContext,
    FactNumber,
    Overlap,
)
from meow_lightning.attacks.victim import Prompt
from meow_lightning.config.ranges import Count, Number, Positive, Probability, Range
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Example
from meow_lightning.data.values.matching import contains_any_value
from meow_lightning.errors import invalid_option

ARM = "sample"
LARGEST_DEVIATION = 0.5  # of a score from 0 to 1 (Popoviciu 1935)
# Label and meaning of every score of an answer.
SCORES = {
    "value": ("value", "1 if the answer gives the value, else 0"),
    "rouge_l": ("ROUGE-L", "ROUGE-L recall of the true answer"),
}


def leak_at(scores: Sequence[float], k: int) -> float:
    """Estimate the expected largest of k scores from n sampled ones, without bias.

        leak@k = sum_{j=k..n} C(j-1, k-1) / C(n, k) * s_(j)

    s_(1) <= ... <= s_(n) are the sorted scores: s_(j) is the largest of C(j-1, k-1) of the C(n, k) subsets of size k.
    leak@1 is the mean, leak@n the maximum. Source: arXiv 2511.04934.

    Args:
        scores: Scores of n independent samples, at least one.
        k: 1 to n.

    Raises:
        UserError: ``k`` is out of range.
    """
    if not 1 <= k <= len(scores):
        raise invalid_option("k", k, f"an integer from 1 to {len(scores)}, the number of samples")
    subsets = math.comb(len(scores), k)
    # exact integers before the one division, since both binomials may exceed a double
    return math.fsum(
        math.comb(place, k - 1) / subsets * score for place, score in enumerate(sorted(scores)) if place >= k - 1
    )


def mean_bound(scores: Sequence[float], *, alpha: float) -> float:
    """Bound the expected score from above with confidence 1 - alpha, from sampled scores alone.

        E[X] = integral_0^1 (1 - F(x)) dx <= integral_0^1 min(1, 1 - F_n(x) + eps) dx,   eps = sqrt(log(1 / alpha) / 2n)

    F_n is the empirical distribution function of the n samples. With probability 1 - alpha, F(x) >= F_n(x) - eps
    for all x at once (Dvoretzky, Kiefer and Wolfowitz 1956, one-sided with the constant of Massart 1990, which holds
    for alpha up to 1/2). The use for sampled answers of unlearned models: arXiv 2410.03523. For scores of 0 and 1 the
    bound is min(1, mean + eps).

    Args:
        scores: Scores of independent samples, each 0 to 1, at least one.
        alpha: Above 0 to 1/2.
    """
    eps = math.sqrt(math.log(1 / alpha) / (2 * len(scores)))
    ends = [0.0, *sorted(scores), 1.0]
    # between the j-th and the next score F_n is j / n
    return math.fsum(
        (high - low) * min(1.0, 1 - place / len(scores) + eps) for place, (low, high) in enumerate(pairwise(ends))
    )


def deviation_bound(scores: Sequence[float], *, alpha: float) -> float:
    """Bound the standard deviation of the score from above with confidence 1 - alpha, from sampled scores alone.

    For any c, Var[X] <= E[(X - c)^2] = c^2 + integral_0^1 2 (x - c) (1 - F(x)) dx. With probability 1 - alpha,
    L(x) = max(0, F_n(x) - eps) <= F(x) <= U(x) = min(1, F_n(x) + eps) for all x, eps = sqrt(log(2 / alpha) / 2n)
    (Dvoretzky-Kiefer-Wolfowitz, two-sided, Massart 1990). The integrand is largest for F = U where x < c and for F = L
    where x > c:

        Var[X] <= min_c h(c),   h(c) = c^2 - integral_0^c 2 (c - x) (1 - U(x)) dx + integral_c^1 2 (x - c) (1 - L(x)) dx

    The band holds for all c at once, and h is convex: its minimum is where
    c = integral_0^c (1 - U) dx + integral_c^1 (1 - L) dx. A score from 0 to 1 never deviates by more than 1/2, the cap.
    Derived here from the definition in arXiv 2410.03523, which bounds the same quantity.

    Args:
        scores: Scores of independent samples, each 0 to 1, at least one.
        alpha: Above 0, below 1.
    """
    count, ordered = len(scores), sorted(scores)
    eps = math.sqrt(math.log(2 / alpha) / (2 * count))
    ends = [0.0, *ordered, 1.0]
    # (low, high, 1 - U, 1 - L) of every piece on which F_n is constant
    pieces = [
        (low, high, max(0.0, 1 - place / count - eps), min(1.0, 1 - place / count + eps))
        for place, (low, high) in enumerate(pairwise(ends))
        if high > low
    ]
    below, above = 0.0, math.fsum((high - low) * upper for low, high, _, upper in pieces)
    centre = 1.0
    for low, high, lower, upper in pieces:
        # half of h' at the piece's upper end; on the piece it grows by 1 - lower + upper per unit of c
        slope = 1 - lower + upper
        start = low - below - above
        if start + slope * (high - low) >= 0:
            centre = low if start >= 0 else low - start / slope
            break
        below, above = below + (high - low) * lower, above - (high - low) * upper
    variance = centre**2
    for low, high, lower, upper in pieces:
        left, right = min(high, max(low, centre)), max(low, min(high, centre))
        variance -= lower * ((centre - low) ** 2 - (centre - left) ** 2 if low < centre else 0.0)
        variance += upper * ((high - centre) ** 2 - (right - centre) ** 2 if high > centre else 0.0)
    return min(LARGEST_DEVIATION, math.sqrt(max(0.0, variance)))


@checked_ranges("attacks")
class Sample(ExtractionAttack):
    """Sample several answers to every question.

    Sample i of a fact takes its random numbers from ``random.Random(f"{seed}/{fact id}/{i}")``, so the first samples
    stay the same if more are drawn.

    Args:
        samples: Answers per question, 1 or more.
        temperature: Above 0.
        top_k: Number of most likely tokens to sample from, 1 to 1,024.
        top_p: Probability mass to sample from, above 0 to 1.
        at: Sizes k of :func:`leak_at`; those above ``samples`` are left out.
        alpha: The bounds hold with confidence 1 - alpha for each question; above 0 to 1/2.

    Raises:
        UserError: An option is out of range.
    """

    version: ClassVar[int] = 1

    def __init__(
        self, *, samples: Count, temperature: Positive, top_k: Annotated[int, Range(1, 1024)], top_p: Probability,
        at: list[Count], alpha: Annotated[Number, Range(0, 0.5, above=True)],
    ) -> None:  # fmt: skip
        self.samples, self.temperature, self.top_k, self.top_p = samples, temperature, top_k, top_p
        self.at, self.alpha = sorted({k for k in at if k <= samples}), alpha
        if not self.at:
            raise invalid_option(
                "attacks.at", at, f"sizes of which one is at most attacks.samples={samples}", did_you_mean="[1]"
            )

    @property
    def calls(self) -> int:
        """The number of samples."""
        return self.samples

    def extract(self, facts: Sequence[Example], ctx: ExtractionContext) -> Iterator[tuple[Attempt, ...]]:
        """Yield the samples of each question."""
        from meow_lightning.generation.sampled import Sampling

        sampling = Sampling(self.temperature, self.top_k, self.top_p)
        for done, fact in enumerate(facts, start=1):
            texts = ctx.victim.samples(
                Prompt(fact.question, raw=fact.segments.raw), sampling=sampling,
                seeds=[f"{ctx.seed}/{fact.id}/{number}" for number in range(self.samples)],
                budget=ctx.budget(fact),
            )  # fmt: skip
            yield tuple(Attempt(arm=ARM, prompt="", text=text) for text in texts)
            ctx.progress(done)

    def numbers(self) -> tuple[FactNumber, ...]:
        """Define leak@k and the two bounds, of every score."""
        drawn = f"{self.samples} answers sampled at temperature {self.temperature:g}"
        defined: list[FactNumber] = []
        for score, (label, meaning) in SCORES.items():
            defined += [
                FactNumber(
                    name=f"{score}_leak_at_{k}", label=f"{label} leak@{k}", main=k == self.at[-1],
                    text=f"Expected largest score of {k} sampled answers, estimated without bias from {drawn}, mean "
                    f"over the questions. Score: {meaning}.",
                )
                for k in self.at
            ]  # fmt: skip
            defined += [
                FactNumber(
                    name=f"{score}_{name}_bound", label=f"{label} {name}, upper bound", excess=False,
                    text=f"Upper bound of the {what} of one sampled answer, for each question at confidence "
                    f"{1 - self.alpha:g} (Dvoretzky-Kiefer-Wolfowitz), from {drawn}, mean over the questions. Score: "
                    f"{meaning}.",
                )
                for name, what in (("mean", "expected score"), ("deviation", "standard deviation of the score"))
            ]  # fmt: skip
        return tuple(defined)

    def values(self, found: Attempts, overlap: Overlap) -> dict[str, float | None]:
        """Compute leak@k and the bounds of one question."""
        texts = [each.text for each in found.of(ARM)]
        scores = {
            "value": [float(contains_any_value(text, found.expected)) for text in texts] if found.expected else None,
            "rouge_l": [overlap(found.answer, text) for text in texts],
        }
        values: dict[str, float | None] = {}
        for name, each in scores.items():
            values |= {f"{name}_leak_at_{k}": None if each is None else leak_at(each, k) for k in self.at}
            values[f"{name}_mean_bound"] = None if each is None else mean_bound(each, alpha=self.alpha)
            values[f"{name}_deviation_bound"] = None if each is None else deviation_bound(each, alpha=self.alpha)
        return values
