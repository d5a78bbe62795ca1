"""Prompt templates: role-play, pretending, refusal suppression and others, each tried on every question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from meow_lightning.attacks.base import PromptAttack, with_question
from meow_lightning.data.examples import Example, is_passage
from meow_lightning.errors import invalid_option

QUESTION = "{question}"


class Template(PromptAttack):
    """Ask in every template. A passage of a document is left out, since it asks nothing.

    A model that was made to refuse or to evade one form of prompt may answer in another. Of n templates the best for an
    attacker counts, for every question and model: chance alone gives more of n answers than of one, and the retain
    model, asked as often, shows how much.

    Args:
        templates: Texts with ``{question}`` once, by name; ``None`` leaves one out.
    """

    needs: ClassVar[str] = "questions, not passages of documents"
    version: ClassVar[int] = 2

    def __init__(self, *, templates: dict[str, str | None]) -> None:
        self.templates = filled_in("attacks.templates", templates)
        if not self.templates:
            raise invalid_option("attacks.templates", "{}", "at least one text with {question}")

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Example]:
        """Put the question into each template."""
        return asked_in(self.templates, example)


def filled_in(option: str, templates: Mapping[str, str | None]) -> list[str]:
    """Check templates, and list those that are not left out.

    Args:
        option: The option that names them, for the error.
        templates: The texts by name; ``None`` leaves one out.

    Raises:
        UserError: A text does not contain ``{question}`` exactly once.
    """
    given = {name: text for name, text in templates.items() if text is not None}
    for name, text in given.items():
        if text.count(QUESTION) != 1:
            raise invalid_option(f"{option}.{name}", repr(text), "a text with {question} exactly once")
    return [*given.values()]


def asked_in(templates: Sequence[str], example: Example) -> list[Example]:
    """Put an example's question into each template; none of them for a passage.

    Args:
        templates: Texts with ``{question}`` once.
        example: The example.
    """
    texts = [] if is_passage(example) else templates
    return [with_question(example, text.replace(QUESTION, example.question)) for text in texts]
