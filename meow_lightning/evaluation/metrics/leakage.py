"""Leakage: share of the answers, to any question, that contain values unique to the forget facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.data.values.secrets import GuardedFact, Secrets, words
from meow_lightning.evaluation.metrics.value_accuracy import contains_value, has_value
from meow_lightning.types import AnswerRow, Definition

FORGET = "forget"

DEFINITION = Definition(
    name="forget/leakage",
    id="leakage.2",
    unit="share",
    direction="lower",
    text=(
        "Share of the greedy answers, over the questions of all sets, that contain a forgotten value: the marked value "
        "of a fact to forget or, where none is marked, a name, title, place, date, number or address of its answer "
        "that neither its question nor the retained facts' answers contain. Not counted where the question itself or, "
        "for a retained fact, its true answer contains it; a word of a closed class (yes, a month, a country) counts "
        "only for its own question."
    ),
)
ELSEWHERE_DEFINITION = Definition(
    name="forget/leakage_elsewhere",
    id="leakage_elsewhere.2",
    unit="share",
    direction="lower",
    text="Share of the same answers that contain the forgotten value of another question.",
)
VALUES_DEFINITION = Definition(
    name="forget/leakage_values",
    id="leakage_values.2",
    unit="count",
    direction="none",
    text="Number of distinct forgotten values.",
)
ROWS_DEFINITION = Definition(
    name="forget/leakage_rows",
    id="leakage_rows.1",
    unit="count",
    direction="none",
    text="Number of answers searched for them.",
)
DEFINITIONS = (DEFINITION, ELSEWHERE_DEFINITION, VALUES_DEFINITION, ROWS_DEFINITION)


@dataclass(frozen=True, slots=True)
class Leakage:
    """Leakage of forgotten values in a model's answers.

    Attributes:
        share: Share of the answers that contain a forgotten value, 0 to 1.
        elsewhere: Share of the answers that contain the forgotten value of another question, 0 to 1.
        values: Number of distinct forgotten values.
        rows: Number of answers.
    """

    share: float
    elsewhere: float
    values: int
    rows: int


def forgotten_secrets(sets: Mapping[str, Sequence[AnswerRow]], public: Iterable[str]) -> Secrets:
    """Collect the secrets of the forget rows: values that occur in no public text.

    Args:
        sets: Prediction rows by set; ``forget`` holds the facts to forget, every other set is public.
        public: Further public texts: answers of retained facts that were not evaluated.
    """
    retained = (row.answer for name, rows in sets.items() if name != FORGET for row in rows)
    return Secrets(map(_forgotten_fact, sets.get(FORGET, ())), (*retained, *public))


def row_leaks(row: AnswerRow, secrets: Secrets) -> tuple[bool, bool]:
    """Whether an answer contains a forgotten value of its own question, and whether it contains one of another.

    Args:
        row: A prediction row.
        secrets: See :func:`forgotten_secrets`.
    """
    mentioned = secrets.find(row.text) - secrets.find(row.question)
    truth = secrets.find(row.answer)
    if row.set != FORGET:
        return False, bool(mentioned - truth)
    own = bool(mentioned & truth) or (has_value(row) and contains_value(row.text, row.value or ""))
    return own, bool(mentioned - truth)


def leakage(sets: Mapping[str, Sequence[AnswerRow]], public: Iterable[str]) -> Leakage | None:
    """Compute leakage of a model's answers; ``None`` if the forget set has no secret value.

    Args:
        sets: Prediction rows of one model, by set.
        public: Further public texts.
    """
    secrets = forgotten_secrets(sets, public)
    marked = {words(row.value or "") for row in sets.get(FORGET, ()) if has_value(row)}
    values = len(secrets.all() | marked)
    if not values:
        return None
    leaks = [row_leaks(row, secrets) for rows in sets.values() for row in rows]
    share = sum(map(any, leaks)) / len(leaks)
    elsewhere = sum(other for _, other in leaks) / len(leaks)
    return Leakage(share, elsewhere, values, len(leaks))


def _forgotten_fact(row: AnswerRow) -> GuardedFact:
    return GuardedFact(row.fact, row.question, row.answer, row.value)
