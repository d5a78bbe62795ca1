"""What is thrown away of written candidates, and how much of each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from meow_lightning.data.swaps import normal, whole
from meow_lightning.types import Fact, InvertedFact

REASONS = ("blank", "true", "duplicate", "evaluated")


def reason(answer: str, fact: Fact, kept: Sequence[str]) -> str | None:
    """Why a candidate is dropped, ``None`` when it is kept.

    ``blank``: no letter or digit in it. ``true``: it is the true answer or still holds the true value.
    ``duplicate``: the fact has it already. ``evaluated``: it is a wrong answer that evaluation measures with, and
    training on those would make forget quality a measure of itself.
    """
    plain = normal(answer)
    value = normal(fact.value or "")
    if not re.search(r"[^\W_]", plain):
        return "blank"
    if plain == normal(fact.answer) or (value and whole(value).search(plain)):
        return "true"
    if plain in kept:
        return "duplicate"
    if plain in {normal(wrong) for wrong in fact.perturbed}:
        return "evaluated"
    return None


def clean(facts: Sequence[Fact], written: Mapping[str, Sequence[str]]) -> tuple[list[InvertedFact], dict[str, int]]:
    """The candidates that survive, numbered anew from 0 per fact, and how many were dropped for each reason.

    Args:
        facts: The facts, in the order of the result.
        written: Raw candidates by fact id.
    """
    inverted: list[InvertedFact] = []
    dropped = dict.fromkeys(REASONS, 0)
    for fact in facts:
        kept: list[str] = []
        for answer in written[fact.id]:
            why = reason(answer, fact, kept)
            if why is not None:
                dropped[why] += 1
                continue
            inverted.append(InvertedFact(fact.id, len(kept), fact.question, answer.strip()))
            kept.append(normal(answer))
    return inverted, dropped
