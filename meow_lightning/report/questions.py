"""Questions of a run before and after unlearning, as HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meow_lightning.data.subset import evenly_spaced
from meow_lightning.evaluation.sets import set_info
from meow_lightning.report.changes import STATES, Span, changed_words, state
from meow_lightning.report.data import ROLE_NAMES, ReportData
from meow_lightning.report.templating import render_template
from meow_lightning.types import ROLES, AnswerRow, Role

OPEN = 40  # questions of the forget set shown without unfolding
SAMPLE = 20  # questions of the retain set shown without unfolding

REASONS = {
    "blank": "no text",
    "refusal": "the teacher refused",
    "question": "repeats the question",
    "true": "still states the fact",
    "length": "much longer or shorter than the true answer",
    "duplicate": "duplicates one that was kept",
    "evaluated": "a wrong answer that the evaluation uses",
    "secret": "contains a value of another fact to forget",
    "unfinished": "cut off by the length limit of the reply",
    "repetition": "goes round in circles",
    "off_topic": "does not answer the question",
    "copied": "copied from a demonstration in the prompt",
}


@dataclass(frozen=True, slots=True)
class Card:
    """A question with its predictions by role.

    Attributes:
        row: The question and its true answer.
        predictions: Every model's prediction, by role.
        trained_on: The inverted answers that were trained on instead of the true one.
        state: What unlearning did to it: a key of ``changes.STATES``, or empty.
        changed: Ranges of the words that differ between the predictions of the target and the unlearned model, by role.
    """

    row: AnswerRow
    predictions: Mapping[Role, AnswerRow | None]
    trained_on: Sequence[str]
    state: str
    changed: Mapping[str, Sequence[Span]]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The questions of a set, of which those beyond the first ``shown`` are folded."""

    title: str
    cards: Sequence[Card]
    shown: int


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """Inverted answers that were filtered out for one reason, with examples: ``(Fact.id, unfiltered answer)``."""

    reason: str
    count: int
    examples: Sequence[tuple[str, str]]


def questions(data: ReportData) -> Markup:
    """Render the questions of forget and retain set; without texts of the dataset if ``data.texts`` is off."""
    sets = _question_sets(data) if data.texts else []
    states = Counter(card.state for each in sets for card in each.cards)
    return render_template(
        "questions.html",
        texts=data.texts,
        public=data.public,
        sets=sets,
        states=[(name, text, states[name]) for name, text in STATES.items()],
        dropped=_dropped(data) if data.texts else [],
        role_names=ROLE_NAMES,
    )


def _question_sets(data: ReportData) -> list[QuestionSet]:
    """Collect the questions of forget and retain set; sets without questions are left out."""
    forget, retain = _rows_of_set(data, "forget"), _rows_of_set(data, "retain")
    sample = evenly_spaced(retain, SAMPLE)
    shown = {row.index for row in sample}
    others = [row for row in retain if row.index not in shown]
    sampled = f", {len(sample)} of them, evenly spaced, above the others" if others else ""
    retain_title = f"Retain set, {len(retain)} questions{sampled}"
    sets = [
        QuestionSet(f"Forget set, {len(forget)} questions", _cards(data, forget, trained=True), OPEN),
        QuestionSet(retain_title, _cards(data, [*sample, *others], trained=False), SAMPLE),
    ]
    return [each for each in sets if each.cards]


def _rows_of_set(data: ReportData, name: str) -> list[AnswerRow]:
    """Return the rows of one set from the first role that has them, preferring the unlearned model."""
    for role in ("unlearned", "target", "retain"):
        if rows := [row for row in data.rows.get(role, []) if row.set == name]:
            return sorted(rows, key=lambda row: row.index)
    return []


def _cards(data: ReportData, rows: Sequence[AnswerRow], *, trained: bool) -> list[Card]:
    """Collect every model's prediction for each question, and the inverted answers if the set was trained on them."""
    predictions = {role: {(row.set, row.index): row for row in data.rows.get(role, [])} for role in ROLES}
    cards = []
    for row in rows:
        shown = {role: predictions[role].get((row.set, row.index)) for role in ROLES}
        before, after = shown["target"], shown["unlearned"]
        changed = changed_words(before.text, after.text) if before and after else ((), ())
        cards.append(
            Card(
                row,
                shown,
                _trained_on(data, row.fact) if trained else [],
                state(before, after, purpose=set_info(row.set).purpose),
                dict(zip(("target", "unlearned"), changed, strict=True)),
            )
        )
    return cards


def _trained_on(data: ReportData, fact: str) -> list[str]:
    """Return the inverted answers of a fact that were trained on."""
    answers = {one.position: one.answer for one in data.inverted if one.fact == fact}
    return [answers[position] for position in data.selected.get(fact, []) if position in answers]


def _dropped(data: ReportData) -> list[DroppedRow]:
    """Collect the inverted answers that were filtered out, by reason, with examples."""
    return [
        DroppedRow(REASONS.get(reason, reason), count, data.dropped.examples.get(reason, ()))
        for reason, count in data.dropped.counts.items()
        if count
    ]
