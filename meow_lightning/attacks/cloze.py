"""Cloze: the statement with a blank, either for the value or, reversed, for the subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.data.examples import Dataset, Example, expected_texts
from meow_lightning.data.values.kinds import spans
from meow_lightning.data.values.matching import contains_value, value_pattern
from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.types import Fact

BLANK = "____"
SUBJECTS = frozenset(("person", "place", "country", "title"))


class Cloze(PromptAttack):
    """Show the true answer with a blank, and ask for what stands in it.

    ``blank=value`` blanks the value after the question. ``blank=subject`` asks the other way round: the true answer is
    shown, and the subject of the question is the answer. The subject is the only person, place, country or title that
    the question names. A fact is left out without exactly one marked value; reversed also without such a subject, or
    where an answer about something else gives the same value, since then several subjects would be right.

    Args:
        blank: What is blanked and asked for: ``value`` or ``subject``.
        template: Text with ``{statement}`` once, and ``{question}`` at most once with ``blank=value``.
    """

    fields: ClassVar[tuple[str, ...]] = ("value", "values")
    needs: ClassVar[str] = "one marked value (value) in its answer, and with blank=subject one subject of its own"
    same_answers: ClassVar[bool] = False
    version: ClassVar[int] = 2

    def __init__(self, *, blank: Literal["value", "subject"], template: str) -> None:
        self.blank = check_choice("attacks.blank", blank, ["value", "subject"])
        most = 1 if blank == "value" else 0
        if template.count("{statement}") != 1 or template.count("{question}") > most:
            expected = "a text with {statement} once" + (", and {question} at most once" if most else " alone")
            raise invalid_option("attacks.template", repr(template), expected)
        self.template = template

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Select the facts among which a value must identify its subject: all, where the subject is asked for."""
        return [] if self.blank == "value" else [*dataset.facts("forget"), *dataset.facts("retain")]

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Fact]:
        """Blank the value, or the subject."""
        given = expected_texts(example)
        if not isinstance(example, Fact) or len(given) != 1:
            return []
        asked = given[0] if self.blank == "value" else subject_of(example, given[0], rows)
        found = value_pattern(given[0]).search(example.answer)
        if asked is None or found is None:
            return []
        statement = value_pattern(asked).sub(BLANK, example.answer)
        text = self.template.replace("{statement}", statement).replace("{question}", example.question)
        return [] if contains_value(text, asked) else [Fact(example.id, text, asked, value=asked)]


def subject_of(fact: Fact, value: str, others: Sequence[Example]) -> str | None:
    """Find what a question is about: its only person, place, country or title, if no other subject has the value.

    Args:
        fact: The fact.
        value: Its value.
        others: Facts among which the value must identify the subject.
    """
    named = [span for span in spans(fact.question, fact.question) if span.kind in SUBJECTS]
    subject = named[0].text if len(named) == 1 else None
    if subject is None or contains_value(subject, value) or contains_value(value, subject):
        return None
    same, own = value.casefold(), subject.casefold()
    shared = any(
        same in other.answer.casefold() and own not in f"{other.question} {other.answer}".casefold() for other in others
    )
    return None if shared else subject
