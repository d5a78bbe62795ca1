"""Other wordings of the question: those of the dataset, or frames around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from meow_lightning.attacks.base import PromptAttack, gives_away, with_question
from meow_lightning.attacks.template import asked_in, filled_in
from meow_lightning.data.examples import Example


class Paraphrase(PromptAttack):
    """Ask in the dataset's other wordings, or, where it has none, in frames that mean the same.

    A wording that gives the value away, which the question itself does not, is not used. Of several ways the best for
    an attacker counts, as for :class:`~meow_lightning.attacks.template.Template`.

    Args:
        frames: Texts with ``{question}`` once, by name; ``None`` leaves one out. Without any, questions for which the
            dataset has no other wording are left out.
    """

    fields: ClassVar[tuple[str, ...]] = ("value", "values", "rewordings")
    needs: ClassVar[str] = "rewordings of the question in the dataset, or its option frames"
    version: ClassVar[int] = 2

    def __init__(self, *, frames: dict[str, str | None]) -> None:
        self.frames = filled_in("attacks.frames", frames)

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Example]:
        """Replace the question by each other wording."""
        own = [text for text in example.rewordings if text != example.question and not gives_away(text, example)]
        return [with_question(example, text) for text in own] or asked_in(self.frames, example)
