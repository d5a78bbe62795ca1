"""Prior knowledge: does the target model know the forget facts, compared with a model that cannot know them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.types import AnswerRow, Definition

DEFINITION = Definition(
    name="facts_known",
    id="facts_known.1",
    unit="share",
    direction="none",
    text="Share of the learnable part of the forget set's answers that the model has learned: (t - o) / (1 - o), with "
    "t the model's mean over the questions and o that of the retain model, which was not trained on them (without "
    "one, that of the question repeated as the answer); by value accuracy where values are marked, else by ROUGE-L "
    "recall or by the probability of the true answers, whichever is larger. 1 is all, 0 nothing; below 0 the other "
    "model knows more.",
)


KINDS = ("rouge_l_recall", "probability")
"""Forget-set metrics used where no values are marked; the repeated question has only the first."""


def gain(known: float, other: float) -> float | None:
    """Compute the normalised gain ``(known - other) / (1 - other)``; ``None`` if ``other`` is 1.

    Args:
        known: Mean over the questions, 0 to 1, of the model that should know the facts.
        other: The same mean of a model that cannot know them, on the same questions.
    """
    return None if other >= 1 else (known - other) / (1 - other)


def echo(rows: Iterable[AnswerRow]) -> list[float]:
    """Compute ROUGE-L recall of each question taken as the answer: the score of a model that repeats the question.

    Args:
        rows: Prediction rows.
    """
    return [rouge_l_recall(row.answer, row.question) for row in rows]


def echoed_values(rows: Iterable[AnswerRow]) -> list[float | None]:
    """Compute value accuracy of each question taken as the answer; ``None`` where no value is marked.

    Args:
        rows: Prediction rows.
    """
    return [row_value_accuracy(replace(row, text=row.question)) for row in rows]
