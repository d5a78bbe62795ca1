"""Facts of two files side by side: no question and no id twice, no fact both forgotten and kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meow_lightning.data.words import comparable
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

SHOWN = 3  # examples that a note names


class Row(NamedTuple):
    """One entry of a file.

    Attributes:
        where: Option, file and line, for messages.
        place: Line and option, for notes, which leave the machine and so name no folder.
        fact: What it holds.
    """

    where: str
    place: str
    fact: Fact


def question_of(fact: Fact) -> str:
    """A question for comparing, see :func:`meow_lightning.data.words.comparable`."""
    return comparable(fact.question)


def check_disjoint(forgotten: Sequence[Row], kept: Sequence[Row]) -> None:
    """Nothing, when no question is both to be forgotten and to be kept."""
    asked = {question_of(row.fact): row.where for row in forgotten}
    for row in kept:
        if question_of(row.fact) in asked:
            both = f"{asked[question_of(row.fact)]} and {row.where} ask the same question ({row.fact.question[:80]!r})"
            raise UserError(f"{both}; it cannot be both forgotten and kept: take it out of one file")


def check_unique_ids(rows: Sequence[Row], *, taken: set[str]) -> None:
    """Nothing, when every id is given once and is none of the shipped facts'."""
    seen: dict[str, str] = {}
    for row in rows:
        if row.fact.id in taken:
            raise UserError(f"{row.where}: id {row.fact.id!r} belongs to a shipped real-world fact; choose another id")
        first = seen.setdefault(row.fact.id, row.where)
        if first != row.where:
            raise UserError(f"{row.where}: id {row.fact.id!r} is also that of {first}; give each fact its own id")


def shared_answers(forgotten: Sequence[Row], kept: Sequence[Row]) -> tuple[str, ...]:
    """A note on answers that stand in both files under different questions, or nothing."""
    lines = {comparable(row.fact.answer): row.place for row in reversed(forgotten)}
    both = [(lines[same], row) for row in kept if (same := comparable(row.fact.answer)) in lines]
    if not both:
        return ()
    shown = "; ".join(f"{first} and {row.place}" for first, row in both[:SHOWN])
    more = f"; {len(both) - SHOWN} more" if len(both) > SHOWN else ""
    return (
        f"{len(both)} of {len(kept)} facts to keep have the answer of a fact to forget: {shown}{more}. Where it is the "
        "same fact in other words, it is forgotten and kept at once: take it out of one file",
    )
