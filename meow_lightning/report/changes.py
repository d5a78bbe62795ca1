"""Word-level changes of answers by unlearning, and their classification."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from meow_lightning.evaluation.metrics.value_accuracy import row_value_accuracy
from meow_lightning.types import AnswerRow, Purpose

Span = tuple[int, int]
WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")

FORGOTTEN, STILL_SAID, COLLATERAL = "forgotten", "still-said", "collateral"
STATES = {FORGOTTEN: "forgotten", STILL_SAID: "still said", COLLATERAL: "collateral damage"}
"""Effects of unlearning on a question, with the words for each."""


def changed_words(before: str, after: str) -> tuple[list[Span], list[Span]]:
    """Find the words that differ between two texts, as ranges of characters in each of them.

    Words and punctuation marks are compared by :class:`difflib.SequenceMatcher`; consecutive changed ones are one
    range.
    """
    words = [[match.span() for match in WORD.finditer(text)] for text in (before, after)]
    compared = SequenceMatcher(
        None, [before[start:end] for start, end in words[0]], [after[start:end] for start, end in words[1]],
        autojunk=False,
    )  # fmt: skip
    opcodes = [each for each in compared.get_opcodes() if each[0] != "equal"]
    return (
        [(words[0][low][0], words[0][high - 1][1]) for _, low, high, _, _ in opcodes if high > low],
        [(words[1][low][0], words[1][high - 1][1]) for _, _, _, low, high in opcodes if high > low],
    )


def state(before: AnswerRow | None, after: AnswerRow | None, *, purpose: Purpose) -> str:
    """Classify what unlearning did to a question, by value accuracy: a key of ``STATES``, or an empty string.

    A question to forget whose true value is still stated is ``still-said``; one that only the target model answered is
    ``forgotten``. A question to keep that only the target model answered is ``collateral``.

    Args:
        before: The target model's prediction, if any.
        after: The unlearned model's prediction, if any.
        purpose: What the question's set is for.
    """
    forgotten = purpose == "forget"
    knew, knows = (None if row is None else row_value_accuracy(row, forgotten=forgotten) for row in (before, after))
    if knows is None:
        return ""
    if purpose == "forget" and knows:
        return STILL_SAID
    if not knew or knows:
        return ""
    return FORGOTTEN if purpose == "forget" else COLLATERAL
