"""ROUGE of one window and MEMO of one text."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

from meow_lightning.memo.windows import one_of
from meow_lightning.types import UserError

Rouge = Literal["rouge1", "rouge2", "rougeL"]
Number = Literal["precision", "recall", "fmeasure"]
ROUGES: tuple[Rouge, ...] = ("rouge1", "rouge2", "rougeL")
REMEMBERED = 2**16  # words and their stems
NUMBERS: tuple[Number, ...] = ("precision", "recall", "fmeasure")


class _Words:
    """Splits a text into words as rouge_score does with ``use_stemmer``; a word is stemmed once and remembered."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        # half of a second per thousand windows went into stemming the same few words
        self.stem = functools.lru_cache(maxsize=REMEMBERED)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        """The words, stemmed."""
        from rouge_score.tokenize import tokenize

        return tokenize(text, self)  # type: ignore[no-any-return]


@functools.cache
def scorer(rouge: Rouge) -> Any:
    """rouge_score's scorer for one ROUGE with the Porter stemmer; one serves every text."""
    from rouge_score.rouge_scorer import RougeScorer  # pulls in nltk: not before a score is wanted

    return RougeScorer([rouge], tokenizer=_Words())


def window_score(prediction: str, label: str, *, rouge: Rouge, measure: Number) -> float:
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
    one_of(measure, NUMBERS, option="memo.measure")
    found = scorer(rouge).score(target=label, prediction=prediction)[rouge]
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
