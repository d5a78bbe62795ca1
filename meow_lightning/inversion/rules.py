"""Inverted facts without a language model: rules replace the value in the answer with another of the same kind."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import ClassVar

from meow_lightning.config.ranges import Count, Seed
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.perturbation import Contradiction, Contradictions
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.filters import rejection_reason
from meow_lightning.types import Fact

# Number of answers up to which a rank is used, unless half of the wanted number is larger; the default is k = 3.
LEAST = {1: 4, 2: 3}


@checked_ranges("inversion")
class Rules(Writer):
    """Writer of up to ``candidates`` contradicting answers per fact; further requests give different ones.

    Inverted answers provided with a fact come first; the rules of
    :class:`~meow_lightning.data.perturbation.Contradictions` write the others. Their last-resort answers are used only
    if a fact would otherwise have too few (``LEAST``), so a fact may get fewer than ``candidates``.

    Args:
        candidates: Answers per fact, 1 or more.
        seed: Seed of the random choices.
    """

    version: ClassVar[int] = 3
    reads_other_facts: ClassVar[bool] = True

    def __init__(self, *, candidates: Count, seed: Seed) -> None:
        self.candidates, self.seed = candidates, seed

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the contradicting answers to each request, unfiltered like those of an LLM."""
        facts = load_facts()
        rules = Contradictions(facts.forget, facts.retain)
        for request in requests:
            if not should_continue():
                return
            answers = self.invert(
                request.fact, rules, count=request.count or self.candidates, previous_answers=request.previous_answers
            )
            yield GenerationResponse(fact=request.fact.id, attempt=request.attempt, answers=tuple(answers))

    def invert(self, fact: Fact, rules: Contradictions, *, count: int, previous_answers: Sequence[str]) -> list[str]:
        """Write up to ``count`` answers that pass the filter, together with any that it will drop.

        Args:
            fact: Fact to contradict.
            rules: Source of the contradictions.
            count: Answers wanted, 1 or more.
            previous_answers: Answers that must not be repeated.
        """
        target_count = count + len(previous_answers)
        written, good = dict.fromkeys(previous_answers), list(previous_answers)
        limits = {0: target_count} | {
            rank: min(target_count, max(least, (count - 1) // 2) + len(previous_answers))
            for rank, least in LEAST.items()
        }
        rng = random.Random(f"{self.seed}/{fact.id}")
        contradictions = rules.of(fact, phrasing=fact.answer, count=target_count, rng=rng)
        for answer in chain((Contradiction(text, 0) for text in fact.inverted), contradictions):
            if len(good) >= limits[answer.rank]:
                break
            if answer.text not in written:
                written[answer.text] = None
                good += (
                    [answer.text] if rejection_reason(answer.text, fact, good, secrets=rules.secrets) is None else []
                )
        return list(written)[len(dict.fromkeys(previous_answers)) :]
