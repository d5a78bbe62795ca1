"""Every question of a run before and after unlearning, with the differences, as a table for loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meow_lightning.data.examples import expected_texts
from meow_lightning.data.words import Words
from meow_lightning.evaluation.metrics.probability import probability
from meow_lightning.evaluation.metrics.rouge import row_rouge_l_recall
from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.evaluation.sets import set_info
from meow_lightning.tracking.base import QuestionTable
from meow_lightning.types import AnswerRow, Role, ScoredText

TEXTS = ("set", "question", "true answer", "value", "answer before", "answer after", "answer of the retain model")
NUMBERS = ("value accuracy", "ROUGE-L recall", "probability", "MEMO")
COLUMNS = (*TEXTS, *(f"{name} {when}" for name in NUMBERS for when in ("before", "after", "change")))
Cell = str | float | None


def question_table(
    rows: Mapping[Role, Sequence[AnswerRow]], memo: Mapping[Role, Sequence[ScoredText]], *, words: Words
) -> QuestionTable | None:  # fmt: skip
    """Put the answers of target, unlearned and retain model to every question side by side.

    The changes are those from the target to the unlearned model. MEMO of a question is that of its true answer.

    Args:
        rows: Predictions by role; the unlearned model's decide on the questions and their order.
        memo: Scores of true answers by role.
        words: How ROUGE splits words.

    Returns:
        The table; ``None`` without predictions of the unlearned model.
    """
    answers = {role: {(row.set, row.index): row for row in each} for role, each in rows.items()}
    scores = {role: {text.fact: text.score for text in each} for role, each in memo.items()}
    lines = [
        _line(
            row,
            {role: known.get((row.set, row.index)) for role, known in answers.items()},
            {role: known.get(row.fact) if row.set == "forget" else None for role, known in scores.items()},
            words=words,
        )
        for row in rows.get("unlearned", ())
    ]
    return QuestionTable(COLUMNS, lines) if lines else None


def _line(
    row: AnswerRow, answers: Mapping[Role, AnswerRow | None], memo: Mapping[Role, float | None], *, words: Words
) -> list[Cell]:  # fmt: skip
    """Format one question."""
    before, retain = answers.get("target"), answers.get("retain")
    texts = (before.text if before else None, row.text, retain.text if retain else None)
    numbers = zip(
        [None] * len(NUMBERS) if before is None else _numbers(before, memo.get("target"), words),
        _numbers(row, memo.get("unlearned"), words),
        strict=True,
    )
    changes: list[Cell] = []
    for old, new in numbers:
        changes += [old, new, None if old is None or new is None else new - old]
    return [row.set, row.question, row.answer, "; ".join(expected_texts(row)) or None, *texts, *changes]


def _numbers(row: AnswerRow, memo: float | None, words: Words) -> list[float | None]:
    """Compute the numbers of one answer, in the order of ``NUMBERS``."""
    said = row_value_accuracy(row, forgotten=set_info(row.set).purpose == "forget")
    return [said, row_rouge_l_recall(row, kind=words), probability(row.truth.logps), memo]
