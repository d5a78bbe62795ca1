"""In context: answered questions that are nearest to the asked one stand before it, as hints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import ClassVar, Literal

from meow_lightning.attacks.base import PromptAttack, with_question
from meow_lightning.attacks.prefix import answered
from meow_lightning.config.ranges import Count
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Dataset, Example, expected_texts
from meow_lightning.data.tfidf import nearest
from meow_lightning.data.values.matching import contains_value
from meow_lightning.errors import check_choice


@checked_ranges("attacks")
class InContext(PromptAttack):
    """Put the answered questions before a question that are nearest to it, the nearest last.

    With ``data=retain`` these are kept facts: neighbours, which no request forbids to show. With ``data=forget`` they
    are other facts to forget, on the same subject where the dataset has several: what an attacker who knows some facts
    gets of the others. Nearness is that of ``method.neighbours``. A fact is no hint for a question that it repeats, or
    whose answer or value it gives; a question without a hint is left out.

    Args:
        data: The facts that serve as hints: ``forget`` or ``retain``.
        examples: Hints per question, 1 or more; fewer where fewer share a word with it.
    """

    fields: ClassVar[tuple[str, ...]] = ("value", "values")
    needs: ClassVar[str] = "another fact of its option data that shares a word with its question"
    version: ClassVar[int] = 2

    def __init__(self, *, data: Literal["forget", "retain"], examples: Count) -> None:
        self.data = check_choice("attacks.data", data, ["forget", "retain"])
        self.examples = examples

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select all facts that may serve as hints."""
        return [*dataset.facts(self.data)]

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Example]:
        """Join the hints and the question, with an empty line between them."""
        near = nearest(example.question, tuple(row.question for row in rows))
        shown = (rows[place] for place in near if not _gives_away(rows[place], example))
        hints = list(islice(shown, self.examples))
        return (
            [with_question(example, "\n\n".join([*map(answered, reversed(hints)), example.question]))] if hints else []
        )


def _gives_away(row: Example, example: Example) -> bool:
    """Whether a fact is the example itself, or states its answer or its value."""
    same = row.question == example.question or row.answer == example.answer
    return same or any(contains_value(answered(row), value) for value in expected_texts(example))
