"""Questions of a run before and after unlearning, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from meow_lightning.data.words import whole_word_pattern
from meow_lightning.report.data import ROLE_NAMES, ROLES, ReportData
from meow_lightning.types import AnswerRow

OPEN = 40  # questions of the forget set shown without unfolding
SAMPLE = 20  # questions of the retain set shown without unfolding

NOT_SHOWN = (
    "The questions and answers are not shown on this page, because the dataset is not public (dataset.public). The "
    "report on the machine that made it (outputs/reports) shows them."
)
PRIVATE = (
    "The dataset is not public (dataset.public): this page and its folder can be read by their owner alone. W&B gets a "
    "page without questions, answers, paths and free text, unless logger.texts=true sends this one."
)
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
}


def questions(data: ReportData) -> str:
    """Render the sections on forget and retain set; without texts of the dataset if ``data.texts`` is off."""
    if not data.texts:
        return f'<p class="none">{NOT_SHOWN}</p>'
    forget, retain = _rows_of_set(data, "forget"), _rows_of_set(data, "retain")
    if not forget and not retain:
        return '<p class="none">No answers were recorded.</p>'
    sample = evenly_spaced(retain, SAMPLE)
    shown = {row.index for row in sample}
    others = [row for row in retain if row.index not in shown]
    sampled = f", {len(sample)} of them, evenly spaced, above the others" if others else ""
    return (
        (f'<p class="small">{PRIVATE}</p>' if not data.public else "")
        + '<p class="small">The true value is <mark>marked</mark> wherever it occurs.</p>'
        + _section(data, f"Forget set, {len(forget)} questions", forget, trained=True, shown=OPEN)
        + _section(
            data, f"Retain set, {len(retain)} questions{sampled}", [*sample, *others], trained=False, shown=SAMPLE
        )
        + _dropped(data)
    )


def evenly_spaced(rows: Sequence[AnswerRow], count: int) -> list[AnswerRow]:
    """Select at most ``count`` rows, evenly spaced and deterministic."""
    return list(rows) if len(rows) <= count else [rows[place * len(rows) // count] for place in range(count)]


def mark_value(text: str, value: str | None) -> str:
    """Escape a text for HTML and mark all whole-word occurrences of ``value``, ignoring case."""
    if value is None or not value.strip():
        return escape(text)
    pieces, end = [], 0
    for match in whole_word_pattern(value, any_blanks=True, any_case=True).finditer(text):
        pieces += [escape(text[end : match.start()]), f"<mark>{escape(match.group())}</mark>"]
        end = match.end()
    return "".join([*pieces, escape(text[end:])])


def _rows_of_set(data: ReportData, name: str) -> list[AnswerRow]:
    """Return the rows of one set from the first role that has them, preferring the unlearned model."""
    for role in ("unlearned", "target", "retain"):
        if rows := [row for row in data.rows.get(role, []) if row.set == name]:
            return sorted(rows, key=lambda row: row.index)
    return []


def _section(data: ReportData, title: str, rows: Sequence[AnswerRow], *, trained: bool, shown: int) -> str:
    """Render a heading and its questions, folding those beyond the first ``shown``."""
    if not rows:
        return ""
    answers = {role: {(row.set, row.index): row for row in data.rows.get(role, [])} for role in ROLES}
    cards = [_card(row, answers, _trained_on(data, row.fact) if trained else "") for row in rows]
    rest = "".join(cards[shown:])
    folded = f"<details><summary>{len(cards) - shown} more questions</summary>{rest}</details>" if rest else ""
    return f"<h3>{escape(title)}</h3>{''.join(cards[:shown])}{folded}"


def _card(row: AnswerRow, answers: dict[str, dict[tuple[str, int], AnswerRow]], trained_on: str) -> str:
    """Render a question with its true answer and every model's answer."""
    columns = [f"<div><b>true answer</b>{mark_value(row.answer, row.value)}</div>"]
    for role in ROLES:
        answer = answers[role].get((row.set, row.index))
        columns.append(f'<div><b class="{role}">{ROLE_NAMES[role]}</b>{_answer(answer)}</div>')
    return (
        f'<article class="question"><h4><span>{row.index + 1}</span>{escape(row.question)}</h4>'
        f'<div class="says">{"".join(columns)}</div>{trained_on}</article>'
    )


def _answer(row: AnswerRow | None) -> str:
    """Render a model's answer, or the reason for its absence."""
    if row is None:
        return '<span class="small">not evaluated</span>'
    if not row.text.strip():
        return '<span class="small">empty</span>'
    cut = ' <span class="small">… cut by the length limit</span>' if row.stop == "length" else ""
    return mark_value(row.text, row.value) + cut


def _trained_on(data: ReportData, fact: str) -> str:
    """Render the inverted answers of a fact that were trained on; empty without any."""
    positions = data.selected.get(fact, [])
    answers = {one.position: one.answer for one in data.inverted if one.fact == fact}
    chosen = [escape(answers[position]) for position in positions if position in answers]
    return f'<p class="instead">trained on instead: {" · ".join(chosen)}</p>' if chosen else ""


def _dropped(data: ReportData) -> str:
    """Render the inverted answers that were filtered out, by reason, with examples; empty without any."""
    counts = {reason: count for reason, count in data.dropped.counts.items() if count}
    if not counts:
        return ""
    rows = "".join(
        f"<tr><th>{escape(REASONS.get(reason, reason))}</th><td>{count}</td><td>"
        + "<br>".join(
            f"<code>{escape(fact)}</code> {escape(text)}" for fact, text in data.dropped.examples.get(reason, ())
        )
        + "</td></tr>"
        for reason, count in counts.items()
    )
    return (
        f"<details><summary>{sum(counts.values())} inverted answers dropped by filtering</summary>"
        '<div class="wide"><table class="plain">'
        "<thead><tr><th>reason</th><th>dropped</th><th>examples</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></details>"
    )
