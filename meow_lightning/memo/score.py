"""ROUGE of one window and MEMO of one text."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

from meow_lightning.memo.windows import one_of
from meow_lightning.types import UserError

Rouge = Literal["rouge1", "rouge2", "rougeL"]
Measure = Literal["precision", "recall", "fmeasure"]
ROUGES: tuple[Rouge, ...] = ("rouge1", "rouge2", "rougeL")
MEASURES: tuple[Measure, ...] = ("precision", "recall", "fmeasure")


@functools.cache
def _scorer(rouge: Rouge) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # pulls in nltk: not before a score is wanted

    return RougeScorer([rouge], use_stemmer=True)


def window_score(prediction: str, label: str, *, rouge: Rouge, measure: Measure) -> float:
    """ROUGE of what was said against what is left of the text, 0 to 1.

    Words are runs of a-z and 0-9 in lower case; those of more than three letters are stemmed (Porter). With o the words
    (``rouge1``), pairs of words (``rouge2``) or the longest common subsequence (``rougeL``) in common:
    precision = o / those of the prediction, recall = o / those of the label, fmeasure = their harmonic mean.
    A prediction or a label without any word gives 0.

    Args:
        prediction: What the model said.
        label: What is left of the text.
        rouge: Which ROUGE.
        measure: Which of its three numbers; MEOW's released code takes the precision.

    Raises:
        UserError: Unknown ``rouge`` or ``measure``.

    """
    one_of(rouge, ROUGES, option="memo.rouge")
    one_of(measure, MEASURES, option="memo.measure")
    found = _scorer(rouge).score(target=label, prediction=prediction)[rouge]
    return float(getattr(found, measure))


def rouge1(prediction: str, label: str, *, measure: Measure) -> float:
    """ROUGE-1 of what was said against what is left of the text, 0 to 1; see :func:`window_score`."""
    return window_score(prediction, label, rouge="rouge1", measure=measure)


def no_windows(text: str) -> UserError:
    """The error for a text that is too short to be cut; ``text`` says in words which one."""
    return UserError(
        f"MEMO cuts no window from {text}: it has fewer than 2 characters, so nothing is left to be recalled; "
        "lengthen it or leave it out"
    )


def memo(window_scores: Sequence[float], *, text: str) -> float:
    """MEMO of one text: the plain mean of its windows' scores, 0 (not held) to 1 (recalled word for word).

    Args:
        window_scores: The score of every window, each 0 to 1; at least one.
        text: Which text it is, in words, for the message.

    Raises:
        UserError: No window at all, which happens to texts of a single character.

    """
    if not window_scores:
        raise no_windows(text)
    return math.fsum(window_scores) / len(window_scores)
