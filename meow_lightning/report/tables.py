"""Tables of a run's numbers: Markdown, CSV, and short ones for the terminal and sweeps."""

from __future__ import annotations

import csv as csv_format
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meow_lightning.report.data import DASH, ROLES, SETS, arrow, definition, format_value, label, number, why_missing
from meow_lightning.report.verdict import UNKNOWN, WHOLLY_KNOWN
from meow_lightning.types import Results

HEAD = (
    "forget_quality_log10",
    "forget_quality",
    "forget_quality_distance",
    "forget_quality_rows",
    "model_utility",
    "forget/leakage",
    "forget/leakage_elsewhere",
    "forget/leakage_values",
    "forget/leakage_rows",
    "facts_known",
)
PARTS = (
    "probability", "rouge_l_recall", "truth_ratio", "value_accuracy", "normalised_probability", "rouge_1_recall",
    "exact_memorisation", "extraction_strength", "fluency", "repetition", "ended",
)  # fmt: skip
ATTACKS = (
    "privacy_leakage/min_k_40", "privacy_leakage/min_k_20", "membership/loss_auc", "membership/zlib_auc",
    "membership/min_k_20_auc", "membership/min_k_40_auc", "membership/min_k_plus_plus_20_auc",
    "membership/min_k_plus_plus_40_auc", "membership/gradient_norm_auc", "membership/reference_auc",
)  # fmt: skip
LEGEND = (
    "↑ higher is better, ↓ lower is better. On the forget set the retain model's number is the reference: "
    "going far beyond it is no improvement."
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


def metric_names(results: Results) -> list[str]:
    """List all metrics with a number or reason for any role: headline numbers, then set by set, then MEMO."""
    known = {name for part in (results.values, results.missing) for role in ROLES for name in part.get(role, {})}
    wanted = [
        *HEAD,
        *(f"{name}/{part}" for name in SETS for part in PARTS),
        "memo/answers",
        "memo/candidates",
        *ATTACKS,
    ]
    return [name for name in wanted if name in known] + sorted(known - set(wanted))


def is_main(name: str) -> bool:
    """Whether a number is a main one: headlines, four of each evaluated set, and MEMO."""
    group, _, part = name.partition("/")
    return name in HEAD or group == "memo" or (group != "holdout" and group in SETS and part in PARTS[:4])


def lines(results: Results, names: Iterable[str]) -> tuple[list[Line], list[str]]:
    """Build one :class:`Line` per metric, and the list of reasons that notes refer to, from 1."""
    reasons: list[str] = []
    rows = []
    for name in names:
        cells: list[str] = []
        notes: list[int | None] = []
        for role in ROLES:
            value = number(results, role, name)
            cells.append(DASH if value is None else format_value(name, value))
            notes.append(_note(reasons, why_missing(results, role, name)) if value is None else None)
        known = definition(results, name)
        unit = known.unit if known else ""
        rows.append(Line(name, label(name), arrow(results, name), unit, tuple(cells), tuple(notes)))
    return rows, reasons


def _note(reasons: list[str], reason: str) -> int:
    """Return the number of a reason, adding it if it is new."""
    if reason not in reasons:
        reasons.append(reason)
    return reasons.index(reason) + 1


def markdown(results: Results) -> str:
    """Render the table in Markdown: a row per metric, a column per role, and reasons for missing numbers below."""
    rows, reasons = lines(results, metric_names(results))
    header = ["metric", "", "unit", *ROLES]
    text = [_bar(header), _bar(["---", ":---:", "---", *["---:"] * len(ROLES)])]
    for line in rows:
        cells = [c if note is None else f"{c} [{note}]" for c, note in zip(line.cells, line.notes, strict=True)]
        text.append(_bar([line.label, line.arrow, line.unit, *cells]))
    text += ["", *(f"**{doubt}**\n" for doubt in unmeasured_reasons(results)), LEGEND, ""]
    text += [f"[{position}] {_one_line(reason)}  " for position, reason in enumerate(reasons, start=1)]
    return "\n".join(text).rstrip() + "\n"


def csv(results: Results) -> str:
    """Render the table as CSV in full precision: ``metric,direction,unit``, a column per role, reasons."""
    out = io.StringIO()
    table = csv_format.writer(out, lineterminator="\n")
    table.writerow(["metric", "direction", "unit", *ROLES, "missing"])
    for name in metric_names(results):
        values = {role: number(results, role, name) for role in ROLES}
        reasons = [f"{role}: {why_missing(results, role, name)}" for role, value in values.items() if value is None]
        known = definition(results, name)
        row = [name, known.direction if known else "", known.unit if known else ""]
        table.writerow([*row, *("" if v is None else repr(v) for v in values.values()), "; ".join(reasons)])
    return out.getvalue()


def closing_table(results: Results) -> list[list[str]]:
    """Build the terminal's closing table: a header, then one row per metric that any model has."""
    rows, _ = lines(results, CLOSING)
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
    for name in CLOSING:
        if number(results, "unlearned", name) is None:
            labels.setdefault(why_missing(results, "unlearned", name), []).append(label(name))
    return [f"not measured: {', '.join(names)} ({_one_line(reason)})" for reason, names in labels.items()]


def _bar(cells: Sequence[str]) -> str:
    """Render a Markdown table row, escaping bars inside cells."""
    return "| " + " | ".join(_one_line(cell).replace("|", "\\|") for cell in cells) + " |"


def _one_line(text: str) -> str:
    """Replace all whitespace in a text by single blanks."""
    return " ".join(text.split())
