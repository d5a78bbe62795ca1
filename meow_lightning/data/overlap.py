"""Consistency of two fact files: no duplicate questions or ids, no fact both forgotten and retained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meow_lightning.data.words import comparable
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

SHOWN = 3  # examples in a note


class Row(NamedTuple):
    """One entry of a file.

    Attributes:
        where: Option, file and line, for error messages.
        place: Line and option, for notes: these may be published, so they name no folder.
        fact: The parsed fact.
        group: Group of the fact, see :mod:`meow_lightning.data.requests`; empty for none.
    """

    where: str
    place: str
    fact: Fact
    group: str = ""


def question_of(fact: Fact) -> str:
    """Normalize a question for comparison, see :func:`meow_lightning.data.words.comparable`."""
    return comparable(fact.question)


def check_disjoint(forgotten: Sequence[Row], kept: Sequence[Row]) -> None:
    """Check that no question is both to be forgotten and to be retained.

    Raises:
        UserError: A question is in both files.
    """
    questions = {question_of(row.fact): row.where for row in forgotten}
    for row in kept:
        if question_of(row.fact) in questions:
            first, question = questions[question_of(row.fact)], row.fact.question[:80]
            pair = f"{first} and {row.where} ask the same question ({question!r})"
            raise UserError(f"{pair}: a fact cannot be both forgotten and retained; remove it from one file")


def check_unique_ids(rows: Sequence[Row], *, taken: set[str]) -> None:
    """Check that ids are unique and distinct from those of the shipped facts.

    Raises:
        UserError: An id occurs twice or belongs to a shipped fact.
    """
    seen: dict[str, str] = {}
    for row in rows:
        if row.fact.id in taken:
            raise UserError(f"{row.where}: id {row.fact.id!r} belongs to a shipped real-world fact; choose another id")
        first = seen.setdefault(row.fact.id, row.where)
        if first != row.where:
            raise UserError(f"{row.where}: id {row.fact.id!r} is also that of {first}; give each fact its own id")


def shared_answers(forgotten: Sequence[Row], kept: Sequence[Row]) -> tuple[str, ...]:
    """Note answers that occur in both files under different questions; empty if there are none."""
    lines = {comparable(row.fact.answer): row.place for row in reversed(forgotten)}
    both = [(lines[same], row) for row in kept if (same := comparable(row.fact.answer)) in lines]
    if not both:
        return ()
    shown = "; ".join(f"{first} and {row.place}" for first, row in both[:SHOWN])
    more = f"; {len(both) - SHOWN} more" if len(both) > SHOWN else ""
    return (
        f"{len(both)} of {len(kept)} facts to keep have the answer of a fact to forget: {shown}{more}. If both state "
        "the same fact, it is forgotten and retained at once: remove it from one file",
    )
