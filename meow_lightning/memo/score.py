"""ROUGE of one window and MEMO of one text."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from meow_lightning.memo.windows import one_of
from meow_lightning.types import UserError
from meow_lightning.words import WORDS, Words, words

Rouge = Literal["rouge1", "rouge2", "rougeL"]
Number = Literal["precision", "recall", "fmeasure"]
ROUGES: tuple[Rouge, ...] = ("rouge1", "rouge2", "rougeL")
NUMBERS: tuple[Number, ...] = ("precision", "recall", "fmeasure")


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """Splits a text into words for rouge_score."""

    kind: Words

    def tokenize(self, text: str) -> list[str]:
        """The words, see :func:`meow_lightning.words.words`."""
        return words(text, kind=self.kind)


@functools.cache
def scorer(rouge: Rouge, kind: Words = "unicode") -> Any:
    """rouge_score's scorer for one ROUGE and way to find words; one serves every text."""
    from rouge_score.rouge_scorer import RougeScorer  # pulls in nltk: not before a score is wanted

    return RougeScorer([rouge], tokenizer=_Tokenizer(kind))


def window_score(prediction: str, label: str, *, rouge: Rouge, measure: Number, kind: Words = "unicode") -> float:
    """ROUGE of what was said against what is left of the text, 0 to 1.

    Words are those of :func:`meow_lightning.words.words`. With o the words (``rouge1``), pairs of words (``rouge2``) or
    the longest common subsequence (``rougeL``) in common: precision = o / those of the prediction, recall = o / those
    of the label, fmeasure = their harmonic mean. A prediction or a label without any word gives 0.

    Args:
        prediction: What the model said.
        label: What is left of the text.
        rouge: Which ROUGE.
        measure: Which of its three numbers; MEOW's released code takes the precision.
        kind: How words are found.

    Raises:
        UserError: Unknown ``rouge``, ``measure`` or ``kind``.

    """
    one_of(rouge, ROUGES, option="memo.rouge")
    one_of(measure, NUMBERS, option="memo.measure")
    one_of(kind, WORDS, option="memo.words")
    found = scorer(rouge, kind).score(target=label, prediction=prediction)[rouge]
    return float(getattr(found, measure))


class NoWindowsError(UserError):
    """A text of which nothing is measured.

    Args:
        measure: What was to be measured, such as ``MEMO``.
        text: Which text, in words.
        why: Why nothing is, in words, beginning with what it has or lacks.
        way: What to do about it, in words.

    """

    def __init__(self, *, measure: str, text: str, why: str, way: str) -> None:
        super().__init__(f"{measure} cuts no window from {text}: it {why}, so nothing is left to be recalled; {way}")
        self.why = f"{text} {why}"
        self._said = {"measure": measure, "text": text, "why": why, "way": way}

    def __reduce__(self) -> tuple[Any, ...]:
        """How a helper process hands it to the one that waits."""
        return functools.partial(NoWindowsError, **self._said), ()


def memo(window_scores: Sequence[float], *, text: str) -> float:
    """MEMO of one text: the plain mean of its windows' scores, 0 (not held) to 1 (recalled word for word).

    Args:
        window_scores: The score of every window, each 0 to 1; at least one.
        text: Which text it is, in words, for the message.

    Raises:
        NoWindowsError: No window at all, which happens to texts of a single character.

    """
    if not window_scores:
        raise NoWindowsError(measure="MEMO", text=text, why="has nothing to cut", way="lengthen it or leave it out")
    return math.fsum(window_scores) / len(window_scores)
