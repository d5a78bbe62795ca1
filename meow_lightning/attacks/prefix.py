"""A fixed prefix: an instruction, or answered questions about what was kept, before every question."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from meow_lightning.attacks.base import PromptAttack, with_question
from meow_lightning.config.ranges import CountOrZero
from meow_lightning.config.signature import checked_ranges
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.errors import invalid_option


@checked_ranges("attacks")
class Prefix(PromptAttack):
    """Put a text before every question: the instruction, then questions of the retain set with their true answers.

    A model that was made to refuse or to evade one form of prompt may answer in another. An answered question is left
    out of its own prompt.

    Args:
        instruction: Text in front of everything, followed by an empty line; ``None`` for no instruction.
        examples: Number of answered questions of the retain set, drawn by the seed, 0 or more.
    """

    version: ClassVar[int] = 1

    def __init__(self, *, instruction: str | None, examples: CountOrZero) -> None:
        if examples == 0 and not (instruction or "").strip():
            raise invalid_option("attacks.examples", 0, "1 or more without an instruction", did_you_mean=1)
        self.instruction, self.examples = instruction, examples

    def rows(self, dataset: Dataset, seed: int) -> list[Example]:
        """Draw the answered questions, fewer if the retain set has fewer, in the order of the dataset."""
        kept = dataset.facts("retain")
        count = min(self.examples, len(kept))
        return [kept[place] for place in sorted(random.Random(seed).sample(range(len(kept)), count))]

    def transform_example(self, example: Example, rows: Sequence[Example]) -> list[Example]:
        """Join instruction, answered questions and question, with an empty line between them."""
        given = [self.instruction] if self.instruction else []
        others = [row for row in rows if row.question != example.question]
        return [with_question(example, "\n\n".join([*given, *map(answered, others), example.question]))]


def answered(row: Example) -> str:
    """Write a question with its true answer on two lines."""
    return f"{row.question}\n{row.answer}"
