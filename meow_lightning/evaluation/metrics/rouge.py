"""How much of the true answer the model's own words bring back (ROUGE-L recall; Lin 2004)."""

from __future__ import annotations

from meow_lightning.memo.score import window_score
from meow_lightning.types import AnswerRow, Definition

DEFINITION = Definition(
    name="rouge_l_recall",
    id="rouge_l_recall.1",
    unit="share",
    direction="higher",
    text="Mean over the questions of the ROUGE-L recall of the greedy answer against the true one, words stemmed.",
)


def rouge_l_recall(answer: str, text: str) -> float:
    """``LCS(answer, text) / words(answer)`` on Porter-stemmed lower-case words, 0 to 1; 0 when either has no word.

    Source: Lin 2004, in the form of Google's rouge_score 0.1.2, as TOFU uses it.

    Args:
        answer: The true answer.
        text: What the model generated.
    """
    return window_score(text, answer, rouge="rougeL", measure="recall")


def row_rouge_l_recall(row: AnswerRow) -> float:
    """ROUGE-L recall of one row's greedy answer, 0 to 1.

    Args:
        row: One answered question.
    """
    return rouge_l_recall(row.answer, row.text)
