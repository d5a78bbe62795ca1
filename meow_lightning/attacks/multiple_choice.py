"""Multiple choice: the true answer among the wrong ones, to be named by its text or by its letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from string import ascii_uppercase
from typing import ClassVar, Literal

from meow_lightning.attacks.base import PromptAttack
from meow_lightning.config.ranges import Seed
from meow_lightning.data.examples import Example
from meow_lightning.errors import check_choice, invalid_option
from meow_lightning.types import Fact

PARTS = ("{question}", "{options}")


class MultipleChoice(PromptAttack):
    """List the true answer among the wrong ones, in an order drawn by the seed and the fact's id.

    The true answer is taken in the wording of the wrong ones (the paraphrase, if the dataset has it). Read
    ``<set>/choice_accuracy``: guessing gives 1 / (1 + wrong answers), and the retain model shows what the wording of
    the options gives away.

    Args:
        reply: What the answers are: the options' texts (``text``), or their letters (``letter``).
        template: Text with ``{question}`` and ``{options}``, one option a line.
        seed: Seed of the order of the options.
    """

    fields: ClassVar[tuple[str, ...]] = ("paraphrase", "perturbed", "value", "values")
    needs: ClassVar[str] = "wrong answers (perturbed)"
    same_answers: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def __init__(self, *, reply: Literal["text", "letter"], template: str, seed: Seed) -> None:
        self.reply = check_choice("attacks.reply", reply, ["text", "letter"])
        if any(template.count(part) != 1 for part in PARTS):
            raise invalid_option("attacks.template", repr(template), "a text with {question} and {options} once each")
        self.template, self.seed = template, seed

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Fact]:
        """List the options after the question; none for a fact without wrong answers, or with more than letters."""
        if not isinstance(example, Fact) or not 0 < len(example.perturbed) < len(ascii_uppercase):
            return []
        true = example.answer if example.paraphrase is None else example.paraphrase
        texts = [true, *example.perturbed]
        order = Random(f"{self.seed}/multiple_choice/{example.id}").sample(range(len(texts)), len(texts))
        lines = [f"{letter}. {texts[place]}" for letter, place in zip(ascii_uppercase, order, strict=False)]
        question = self.template.replace("{options}", "\n".join(lines)).replace("{question}", example.question)
        if self.reply == "text":
            return [replace(example, question=question, answer=true, paraphrase=None)]
        letters = [ascii_uppercase[order.index(place)] for place in range(len(texts))]
        return [Fact(example.id, question, letters[0], perturbed=tuple(letters[1:]))]
