"""ROUGE of one window and MEMO of one text."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

from meow_lightning.data.words import WORDS, Words, words
from meow_lightning.errors import check_choice

Rouge = Literal["rouge1", "rouge2", "rougeL"]
RougeStat = Literal["precision", "recall", "fmeasure"]
ROUGES: tuple[Rouge, ...] = ("rouge1", "rouge2", "rougeL")
ROUGE_STATS: tuple[RougeStat, ...] = ("precision", "recall", "fmeasure")


@dataclass(frozen=True, slots=True)
class _Tokenizer:
    """Splits a text into words for rouge_score."""

    kind: Words

    def tokenize(self, text: str) -> list[str]:
        """The words, see :func:`meow_lightning.data.words.words`."""
        return words(text, kind=self.kind)


@functools.cache
def scorer(rouge: Rouge, kind: Words = "unicode") -> Any:
    """rouge_score's scorer for one ROUGE and way to find words; one serves every text."""
    from rouge_score.rouge_scorer import RougeScorer  # pulls in nltk: not before a score is wanted

    return RougeScorer([rouge], tokenizer=_Tokenizer(kind))


def window_score(prediction: str, label: str, *, rouge: Rouge, rouge_stat: RougeStat, kind: Words = "unicode") -> float:
    """ROUGE of what was said against what is left of the text, 0 to 1.

    Words are those of :func:`meow_lightning.data.words.words`. With o the words (``rouge1``), pairs of words
    (``rouge2``) or the longest common subsequence (``rougeL``) in common: precision = o / those of the prediction,
    recall = o / those of the label, fmeasure = their harmonic mean. A prediction or a label without any word gives 0.

    Args:
        prediction: What the model said.
        label: What is left of the text.
        rouge: Which ROUGE.
        rouge_stat: Which of its three numbers; MEOW's released code takes the precision.
        kind: How words are found.

    Raises:
        UserError: Unknown ``rouge``, ``rouge_stat`` or ``kind``.

    """
    check_choice("memo.rouge", rouge, ROUGES)
    check_choice("memo.rouge_stat", rouge_stat, ROUGE_STATS)
    check_choice("memo.words", kind, WORDS)
    found = scorer(rouge, kind).score(target=label, prediction=prediction)[rouge]
    return float(getattr(found, rouge_stat))
