"""Fluency of the greedy answers without a judge model: known bigrams, repetition, answers ended by the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meow_lightning.data.words import words_and_marks
from meow_lightning.errors import UserError
from meow_lightning.types import AnswerRow, Definition

Pair = tuple[str, str]
Owner = tuple[str, int]
Known = Mapping[Pair, Owner]
"""Known word bigrams, each mapped to the set and index of the only row that holds it, or to ``SEVERAL``."""

SEVERAL: Owner = ("", -1)

REPEATED_RUN = 4
"""n of the word n-grams counted by :data:`REPETITION_DEFINITION`, as in Welleck et al. 2020."""

DEFINITION = Definition(
    name="fluency",
    id="fluency.2",
    unit="share",
    direction="higher",
    text="Mean over the questions of the share of the greedy answer's pairs of neighbouring words that another row's "
    "question or true answer also holds, each pair counted once. A stand-in for a gibberish classifier: invented "
    "words, shuffled words, loops and silence come out near 0, while a fluent wrong answer scores like a right one. "
    "Its ceiling is not 1 and differs between sets: read it beside the target and the retain model's.",
)

REPETITION_DEFINITION = Definition(
    name="repetition",
    id="repetition.2",
    unit="share",
    direction="lower",
    text=f"Mean over the questions of the share of the greedy answer's runs of {REPEATED_RUN} words that repeat an "
    "earlier run; 1 for an endless loop.",
)

ENDED_DEFINITION = Definition(
    name="ended",
    id="ended.1",
    unit="share",
    direction="higher",
    text="Share of the questions whose greedy answer the model ended by itself, within the budget of tokens.",
)


def pairs(text: str) -> list[Pair]:
    """Word bigrams, with the empty word added before the first and after the last word.

    A text of one word therefore has two bigrams, and a text without words has none.

    Args:
        text: Any text.
    """
    found = words_and_marks(text)
    return list(zip(["", *found], [*found, ""], strict=True)) if found else []


def known_pairs(rows: Iterable[AnswerRow]) -> dict[Pair, Owner]:
    """All word bigrams of the rows' questions and true answers, with the row each comes from.

    Args:
        rows: All prediction rows of a model, of every set: the more rows, the finer the measure.
    """
    owners: dict[Pair, Owner] = {}
    for row in rows:
        owner = (row.set, row.index)
        for pair in (*pairs(row.question), *pairs(row.answer)):
            if owners.setdefault(pair, owner) != owner:
                owners[pair] = SEVERAL
    return owners


def row_fluency(row: AnswerRow, *, known: Known) -> float:
    """``|distinct pairs of the greedy answer that another row holds| / |pairs of the greedy answer|``, 0 to 1.

    The row's own question and true answer are excluded; otherwise a model that recites would look more fluent than one
    that never saw the answer. 0 for an answer without words.

    Args:
        row: One answered question.
        known: Result of :func:`known_pairs` over all rows, this one included.
    """
    own_pairs, owner = pairs(row.text), (row.set, row.index)
    return sum(known.get(pair, owner) != owner for pair in set(own_pairs)) / len(own_pairs) if own_pairs else 0.0


def repetition(text: str, *, run: int) -> float:
    """``1 - |distinct runs of n words| / |runs of n words|``, 0 to below 1; 0 for a text of fewer than n words.

    Source: Welleck et al. 2020, seq-rep-n, over words instead of tokens so that models are comparable.

    Args:
        text: What the model generated.
        run: n, in words, at least 1.

    Raises:
        UserError: ``run`` is below 1.
    """
    if run < 1:
        raise UserError(f"run={run} was given; repetition counts runs of at least 1 word: give 1 or more")
    found = words_and_marks(text)
    runs = [tuple(found[start : start + run]) for start in range(len(found) - run + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def row_repetition(row: AnswerRow) -> float:
    """Repetition of one row's greedy answer over n-grams of ``REPEATED_RUN`` words.

    Args:
        row: One answered question.
    """
    return repetition(row.text, run=REPEATED_RUN)


def row_ended(row: AnswerRow) -> float | None:
    """1 if the model ended its greedy answer itself, 0 if the token budget did; ``None`` if unknown (a log).

    Args:
        row: One answered question.
    """
    if row.stop == "length" and len(row.generated) == 0:
        return None
    return float(row.stop == "end")
