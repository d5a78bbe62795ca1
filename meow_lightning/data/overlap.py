"""Consistency of two fact files: no duplicate questions or ids, no fact both forgotten and retained."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from meow_lightning.data.words import comparable, words_and_marks
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

SHOWN = 3  # examples in a note
TELLING = 3  # words from which an answer states a fact by itself; a shorter one does beside the names of its question


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
    return (
        f"{len(both)} of {len(kept)} facts to keep have the answer of a fact to forget: {_places(both)}. If both state "
        "the same fact, it is forgotten and retained at once: remove it from one file",
    )


def contained_facts(forgotten: Sequence[Row], kept: Sequence[Row]) -> tuple[str, ...]:
    """Note facts to keep whose texts state a fact to forget among other words; empty if there are none.

    A text states a fact if it contains the whole answer, or the marked value or an answer of fewer than
    :data:`TELLING` words together with all names of its question. Equal answers are those of :func:`shared_answers`.
    """
    texts = [_words(f"{row.fact.question} {row.fact.answer}") for row in kept]
    having = defaultdict[str, set[int]](set)
    for place, text in enumerate(texts):
        for word in text:
            having[word].add(place)
    found: dict[int, str] = {}
    for row in forgotten:
        answer = comparable(row.fact.answer)
        for place in _stating(row.fact, texts, having):
            if comparable(kept[place].fact.answer) != answer:
                found.setdefault(place, row.place)
    if not found:
        return ()
    both = [(found[place], kept[place]) for place in sorted(found)]
    return (
        f"{len(both)} of {len(kept)} facts to keep contain a fact to forget: {_places(both)}. What is retained there "
        "is not forgotten: take it out of the fact to keep",
    )


def _stating(fact: Fact, texts: Sequence[Sequence[str]], having: dict[str, set[int]]) -> Iterator[int]:
    """Find the texts that state a fact, of which an index has the places of every word."""
    asked = {name for word in fact.question.split()[1:] if word[:1].isupper() for name in _words(word)}
    for stated in {fact.answer, fact.value or fact.answer}:
        words = _words(stated)
        places = set.intersection(*(having.get(word, set()) for word in words)) if words else set()
        if len(words) < TELLING or stated != fact.answer:
            names = [having.get(name, set()) for name in asked - {*words} if len(name) > 1]
            places = places.intersection(*names) if names else set()
        whole = f" {' '.join(words)} "
        yield from (place for place in places if whole in f" {' '.join(texts[place])} ")


def _words(text: str) -> list[str]:
    return [word for word in words_and_marks(comparable(text)) if any(map(str.isalnum, word))]


def _places(both: Sequence[tuple[str, Row]]) -> str:
    """List pairs of lines, the first ones by their places."""
    shown = "; ".join(f"{first} and {row.place}" for first, row in both[:SHOWN])
    return shown + (f"; {len(both) - SHOWN} more" if len(both) > SHOWN else "")
