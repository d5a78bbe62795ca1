"""Inverted facts without any language model: the value of the answer is swapped for another of its kind."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import ClassVar

from meow_lightning.data.perturbation import Contradiction, Contradictions
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.filters import rejection_reason
from meow_lightning.types import Fact

# Up to how many answers those of a rank are taken, where half of what is wanted is not more: k = 3 is the default.
LEAST = {1: 4, 2: 3}


class Rules(Writer):
    """Writes up to ``candidates`` contradicting answers per fact; asked again, others than before.

    Ready-made inverted answers of a fact come first; rules make what is wanted beyond them, as
    :class:`~meow_lightning.data.perturbation.Contradictions` says. What they find as a last resort is taken only
    where a fact would have too few answers without (``LEAST``), so a fact may get fewer than ``candidates``.

    Args:
        candidates: Answers per fact, 1 or more.
        seed: Seed of the choices.
    """

    reads_other_facts: ClassVar[bool] = True

    def __init__(self, *, candidates: int, seed: int) -> None:
        if candidates < 1:
            raise UserError(f"inversion.candidates={candidates} is too small; at least 1 is needed")
        self.candidates, self.seed = candidates, seed

    def write(
        self, asks: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """The contradicting answers to each question, as raw as an LLM would give them: cleaning comes after."""
        known = load_facts()
        rules = Contradictions(known.forget, known.retain)
        for ask in asks:
            if not should_continue():
                return
            found = self.invert(
                ask.fact, rules, count=ask.count or self.candidates, previous_answers=ask.previous_answers
            )
            yield GenerationResponse(fact=ask.fact.id, attempt=ask.attempt, answers=tuple(found))

    def invert(self, fact: Fact, rules: Contradictions, *, count: int, previous_answers: Sequence[str]) -> list[str]:
        """Up to ``count`` contradicting answers that cleaning will keep, among them those that it will drop.

        Args:
            fact: What to contradict.
            rules: What finds them.
            count: Answers wanted, 1 or more.
            previous_answers: Answers that shall not come again.
        """
        target_count = count + len(previous_answers)
        found, good = dict.fromkeys(previous_answers), list(previous_answers)
        most = {0: target_count} | {
            rank: min(target_count, max(least, (count - 1) // 2) + len(previous_answers))
            for rank, least in LEAST.items()
        }
        rng = random.Random(f"{self.seed}/{fact.id}")
        made = rules.of(fact, phrasing=fact.answer, count=target_count, rng=rng)
        for answer in chain((Contradiction(text, 0) for text in fact.inverted), made):
            if len(good) >= most[answer.rank]:
                break
            if answer.text not in found:
                found[answer.text] = None
                good += (
                    [answer.text] if rejection_reason(answer.text, fact, good, secrets=rules.secrets) is None else []
                )
        return list(found)[len(dict.fromkeys(previous_answers)) :]
