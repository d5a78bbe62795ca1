"""How much of the true answer the model's own words bring back (recall of ROUGE-L and ROUGE-1; Lin 2004)."""

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

ROUGE_1_DEFINITION = Definition(
    name="rouge_1_recall",
    id="rouge_1_recall.1",
    unit="share",
    direction="higher",
    text="Mean over the questions of the ROUGE-1 recall of the greedy answer against the true one: the share of its "
    "words that come back in any order, words stemmed.",
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


def rouge_1_recall(answer: str, text: str) -> float:
    """``sum_w min(count_answer(w), count_text(w)) / words(answer)`` on stemmed lower-case words, 0 to 1.

    Never below ROUGE-L recall, since order does not count; 0 when either has no word. Source: Lin 2004, in the form of
    Google's rouge_score 0.1.2, as open-unlearning uses it.

    Args:
        answer: The true answer.
        text: What the model generated.
    """
    return window_score(text, answer, rouge="rouge1", measure="recall")


def row_rouge_1_recall(row: AnswerRow) -> float:
    """ROUGE-1 recall of one row's greedy answer, 0 to 1.

    Args:
        row: One answered question.
    """
    return rouge_1_recall(row.answer, row.text)
