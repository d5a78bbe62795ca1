"""Tables of a run's numbers: Markdown, CSV, and short ones for the terminal and sweeps."""

from __future__ import annotations

import csv as csv_format
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meow_lightning.evaluation.ability import is_ability, is_stderr, stderr_name
from meow_lightning.evaluation.extraction import is_extraction
from meow_lightning.evaluation.layers import is_layer_number
from meow_lightning.evaluation.metric import is_coverage
from meow_lightning.evaluation.robustness import change_name
from meow_lightning.evaluation.slim import HEADLINES
from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import (
    DASH,
    arrow,
    coverage_of,
    definition,
    format_value,
    label,
    number,
    stderr_of,
    why_missing,
)
from meow_lightning.report.robustness import KINDS, attack_tables, measured
from meow_lightning.report.robustness import LEGEND as ATTACK_LEGEND
from meow_lightning.report.verdict import UNKNOWN, WHOLLY_KNOWN
from meow_lightning.types import ROLES, Results

LEGEND = (
    "↑ higher is better, ↓ lower is better. On the forget set the retain model's number is the reference: "
    "going far beyond it is no improvement. (n of N): over the n questions of N whose value is marked."
)
CLOSING = (
    "forget_quality_log10",
    "model_utility",
    "forget/value_accuracy",
    "forget/leakage",
    "retain/value_accuracy",
    "forget/rouge_l_recall",
    "retain/rouge_l_recall",
    "memo/answers",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One metric as a row: its label, and per role the formatted number or a dash with the number of its reason."""

    name: str
    label: str
    arrow: str
    unit: str
    cells: tuple[str, ...]
    notes: tuple[int | None, ...]


def ability_names(results: Results) -> list[str]:
    """List the numbers of ability tasks in order, without their standard errors."""
    return [known.name for known in results.definitions if is_ability(known.name) and not is_stderr(known.name)]


def extraction_names(results: Results) -> list[str]:
    """List the main numbers of attacks that ask, in order."""
    return [known.name for known in results.definitions if is_extraction(known.name) and known.main]


def benchmark_names(every: Iterable[Results]) -> list[str]:
    """List the numbers of ability tasks and the main ones of attacks that ask, of some runs, each once."""
    return list(dict.fromkeys(name for each in every for name in (*ability_names(each), *extraction_names(each))))


def metric_names(results: Results) -> list[str]:
    """List all metrics with a number or reason for any role, in the order of their definitions.

    Standard errors and numbers of questions are left out: they stand beside their numbers.
    """
    known = {
        name
        for part in (results.values, results.missing)
        for role in ROLES
        for name in part.get(role, {})
        if not is_stderr(name) and not is_coverage(name)
    }
    places = {each.name: each.order for each in results.definitions}
    return sorted(known, key=lambda name: (places.get(name, math.inf), name))


def is_main(results: Results, name: str) -> bool:
    """Whether a number is a main one."""
    known = definition(results, name)
    return known is not None and known.main


def lines(results: Results, names: Iterable[str], condition: str = "") -> tuple[list[Line], list[str]]:
    """Build one :class:`Line` per metric, and the list of reasons that notes refer to, from 1.

    Args:
        results: The numbers of a run.
        names: Names of the metrics.
        condition: Name of the attack after which the models are shown; empty for the models themselves, which alone
            are asked by attacks that ask.
    """
    subjects = [str(Subject(role, condition)) for role in ROLES]
    reasons: list[str] = []
    rows = []
    for name in names:
        if condition and is_extraction(name):
            continue
        cells: list[str] = []
        notes: list[int | None] = []
        for subject in subjects:
            value = number(results, subject, name)
            cells.append(DASH if value is None else format_value(name, value) + _beside(results, subject, name))
            notes.append(_note(reasons, why_missing(results, subject, name)) if value is None else None)
        known = definition(results, name)
        unit = known.unit if known else ""
        rows.append(Line(name, label(results, name), arrow(results, name), unit, tuple(cells), tuple(notes)))
    return rows, reasons


def _beside(results: Results, subject: str, name: str) -> str:
    """Format a number's standard error and, unless it rests on all questions, their number."""
    error, coverage = stderr_of(results, subject, name), coverage_of(results, subject, name)
    spread = "" if error is None else f" ± {format_value(name, error)}"
    return spread if coverage is None else f"{spread} ({coverage[0]} of {coverage[1]})"


def _note(reasons: list[str], reason: str) -> int:
    """Return the number of a reason, adding it if it is new."""
    if reason not in reasons:
        reasons.append(reason)
    return reasons.index(reason) + 1


def markdown(results: Results) -> str:
    """Render the tables in Markdown: a row per metric, a column per role, and reasons for missing numbers below.

    After the table of the models themselves, two tables per attack: what it changes, and all numbers after it.
    """
    rows, reasons = lines(results, metric_names(results))
    doubts = [f"**{doubt}**\n" for doubt in unmeasured_reasons(results)]
    text = [*_table(rows), "", *doubts, LEGEND, "", *_reasons(reasons)]
    for (title, changes), condition in zip(attack_tables(results), results.conditions, strict=True):
        rows, reasons = lines(results, _attacked_names(results), condition)
        head, *body = changes
        bars = [_bar(head), _bar(["---", *["---:"] * (len(head) - 1)]), *map(_bar, body)]
        text += ["", f"## {title}", "", *bars, "", ATTACK_LEGEND, "", *_table(rows), "", *_reasons(reasons)]
    return "\n".join(text).rstrip() + "\n"


def _attacked_names(results: Results) -> list[str]:
    """List the metrics of models after attacks, whose layers are not read."""
    return [name for name in metric_names(results) if not is_layer_number(name)]


def _table(rows: Sequence[Line]) -> list[str]:
    """Render a row per metric, with a column per role."""
    header = ["metric", "", "unit", *ROLES]
    text = [_bar(header), _bar(["---", ":---:", "---", *["---:"] * len(ROLES)])]
    for line in rows:
        cells = [c if note is None else f"{c} [{note}]" for c, note in zip(line.cells, line.notes, strict=True)]
        text.append(_bar([line.label, line.arrow, line.unit, *cells]))
    return text


def _reasons(reasons: Sequence[str]) -> list[str]:
    """Render the reasons for missing numbers."""
    return [f"[{position}] {_one_line(reason)}  " for position, reason in enumerate(reasons, start=1)]


def csv(results: Results) -> str:
    """Render the table as CSV in full precision: ``metric,direction,unit``, a column per subject, reasons."""
    out = io.StringIO()
    table = csv_format.writer(out, lineterminator="\n")
    subjects = [str(Subject(role, condition)) for condition in ("", *results.conditions) for role in ROLES]
    table.writerow(["metric", "direction", "unit", *subjects, "missing"])
    errors = [stderr_name(name) for name in ability_names(results)]
    counts = [each.name for each in results.definitions if is_coverage(each.name)]
    changes = [change_name(kind, name) for name in measured(results) for kind in KINDS if results.conditions]
    for name in [*metric_names(results), *counts, *errors, *changes]:
        values = {subject: number(results, subject, name) for subject in subjects}
        reasons = [f"{each}: {why_missing(results, each, name)}" for each, value in values.items() if value is None]
        known = definition(results, name)
        row = [name, known.direction if known else "", known.unit if known else ""]
        table.writerow([*row, *("" if v is None else repr(v) for v in values.values()), "; ".join(reasons)])
    return out.getvalue()


def closing_table(results: Results) -> list[list[str]]:
    """Build the terminal's closing table: a header, then one row per metric that any model has."""
    rows, _ = lines(results, [*_closing_names(results), *extraction_names(results)])
    measured = [line for line in rows if set(line.cells) != {DASH}]
    return [["", *ROLES], *([f"{line.label} {line.arrow}".rstrip(), *line.cells] for line in measured)]


def unmeasured_reasons(results: Results) -> list[str]:
    """List reasons in the numbers themselves not to trust them, one sentence each."""
    known = number(results, "target", "facts_known")
    if known is None or known >= WHOLLY_KNOWN:
        return []
    retain = bool(results.values.get("retain"))
    baseline = "the retain model, which never saw them" if retain else "an answer that repeats the question"
    rouge, chance = (number(results, role, "forget/rouge_l_recall") for role in ("target", "retain"))
    words = "" if rouge is None else f" (ROUGE-L recall of the true answers {rouge:.2f}"
    words += f", retain model {chance:.2f})" if words and chance is not None else ")" * bool(words)
    remedy = (
        "if it was trained here, raise model.finetune.lr or model.finetune.steps; if it was provided, check its prompt "
        "(model.prompt.template, model.prompt.answer_prefix) and tokenizer"
    )
    if known < UNKNOWN:
        return [
            f"the target model does not know the facts: compared with {baseline}, it has learned {known:.0%} of what "
            f"there is to learn{words}. There is nothing to unlearn, and the unlearned model's numbers mean nothing; "
            f"{remedy}"
        ]
    return [
        f"the target model knows the facts in part: compared with {baseline}, it has learned {known:.0%} of what there "
        f"is to learn{words}; {remedy}"
    ]


def closing_reasons(results: Results) -> list[str]:
    """Explain missing numbers of the unlearned model in the closing table, one line per reason."""
    labels: dict[str, list[str]] = {}
    for name in _closing_names(results):
        if number(results, "unlearned", name) is None:
            labels.setdefault(why_missing(results, "unlearned", name), []).append(label(results, name))
    return [f"not measured: {', '.join(names)} ({_one_line(reason)})" for reason, names in labels.items()]


def _closing_names(results: Results) -> list[str]:
    """List the closing numbers, with those of ability tasks after model utility; of layers and probe at the end."""
    place = CLOSING.index("model_utility") + 1
    read = [known.name for known in results.definitions if is_layer_number(known.name) and known.main]
    defined = {known.name for known in results.definitions}
    probed = [name for name in HEADLINES if name in defined]
    return [*CLOSING[:place], *ability_names(results), *CLOSING[place:], *read, *probed]


def _bar(cells: Sequence[str]) -> str:
    """Render a Markdown table row, escaping bars inside cells."""
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    """Replace all whitespace in a text by single blanks."""
    return " ".join(text.split())
