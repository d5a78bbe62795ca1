"""Report files of one run: one self-contained HTML page, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meow_lightning.evaluation.layers import is_layer_number
from meow_lightning.evaluation.subject import Subject
from meow_lightning.memo.selection_diagnostics import warnings
from meow_lightning.report import (
    base_model,
    extraction,
    known_facts,
    neighbours,
    requests,
    rounds,
    seed_spread,
    slim,
    tables,
)
from meow_lightning.report.data import DASH, ROLE_NAMES, ReportData, flatten, format_value, label, number
from meow_lightning.report.figures import pictures
from meow_lightning.report.layers import layer_picture
from meow_lightning.report.metric_trust import leading
from meow_lightning.report.questions import questions
from meow_lightning.report.relearning import relearning_picture, relearning_sentences
from meow_lightning.report.robustness import LEGEND, SUMMARY_LEGEND, attack_picture, attack_tables, summary_table
from meow_lightning.report.selection import section, selection_of
from meow_lightning.report.svg import Picture
from meow_lightning.report.templating import render_template
from meow_lightning.report.traces import REMAINS
from meow_lightning.report.verdict import COLLAPSED, KEPT, MAX_EXCESS_RECALL, SIGNIFICANCE, kept_share, verdict
from meow_lightning.tracking.disclosure import PAGE, SHAREABLE
from meow_lightning.types import ROLES, Definition

TABLES = ("table.md", "table.csv")

STATS = (
    "forget_quality_log10", "forget/value_accuracy", "forget/leakage", "model_utility", "retain/value_accuracy",
    "memo/answers",
)  # fmt: skip
THRESHOLDS = {
    "significance": SIGNIFICANCE,
    "remains": REMAINS,
    "max_excess_recall": MAX_EXCESS_RECALL,
    "kept": KEPT,
    "collapsed": COLLAPSED,
}


@dataclass(frozen=True, slots=True)
class Stat:
    """A key number before and after unlearning; ``before`` and ``kept`` are empty if they do not apply."""

    label: str
    before: str
    after: str
    kept: str


@dataclass(frozen=True, slots=True)
class NumberCell:
    """A formatted number of one model, the number of its reason if it is missing, and its bootstrap interval if any."""

    text: str
    note: int | None
    interval: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class NumberRow:
    """One metric with a cell per role; ``starts_group`` where another evaluation set begins."""

    label: str
    arrow: str
    unit: str
    cells: Sequence[NumberCell]
    starts_group: bool


@dataclass(frozen=True, slots=True)
class NumberTable:
    """Metrics of all models; ``reasons`` explain missing numbers, and notes refer to them from 1."""

    rows: Sequence[NumberRow]
    reasons: Sequence[str]
    roles: Sequence[str] = ROLES


@dataclass(frozen=True, slots=True)
class Attacked:
    """The numbers after one attack: a heading, its form in a sentence, the changes and the main numbers."""

    title: str
    label: str
    changes: Sequence[Sequence[str]]
    numbers: NumberTable


@dataclass(frozen=True, slots=True)
class Drawn:
    """All pictures of a report, drawn once for its files and pages."""

    figures: Sequence[Picture]
    attacks: Picture
    layers: Picture
    relearning: Picture
    rounds: Picture
    requests: Picture

    @classmethod
    def of(cls, data: ReportData) -> Drawn:
        """Draw all pictures."""
        return cls(
            figures=pictures(data), attacks=attack_picture(data), layers=layer_picture(data),
            relearning=relearning_picture(data), rounds=rounds.picture(data.loop),
            requests=requests.picture(data.sequence),
        )  # fmt: skip

    @property
    def all(self) -> tuple[Picture, ...]:
        """All of them."""
        return (*self.figures, self.attacks, self.layers, self.relearning, self.rounds, self.requests)


def write_report(data: ReportData, folder: Path, *, shareable: ReportData | None = None) -> Path:
    """Write ``report.html``, ``table.md``, ``table.csv`` and ``figures/*.svg``, and return the path of the first.

    The page is self-contained: it loads no script, font or image. Figures of an earlier report that are no longer
    drawn are removed.

    Args:
        data: Data of the run. With ``data.texts`` off, no file contains a question or answer.
        folder: Target folder; created if missing.
        shareable: The data without private content, for a second page; ``None`` for no such page.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    drawn = Drawn.of(data)
    for picture in drawn.all:
        path = folder / "figures" / f"{picture.name}.svg"
        if picture.svg is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(picture.svg, encoding="utf-8")
    for name, written in zip(TABLES, (tables.markdown(data.results), tables.csv(data.results)), strict=True):
        (folder / name).write_text(written, encoding="utf-8")
    report = folder / PAGE
    report.write_text(page(data, drawn), encoding="utf-8")
    if shareable is not None:
        (folder / SHAREABLE).write_text(page(shareable, drawn), encoding="utf-8")
    return report


def page(data: ReportData, drawn: Drawn) -> str:
    """Render the page as HTML: verdict, table, figures, selection, questions, settings."""
    choice = selection_of(data)
    names = tables.metric_names(data.results)
    main = [name for name in names if tables.is_main(data.results, name)]
    return render_template(
        "report.html",
        data=data,
        verdict=verdict(data.results),
        stats=_stats(data),
        thresholds=THRESHOLDS,
        notes=[*data.notes, *tables.unmeasured_reasons(data.results), *(warnings(choice) if choice else [])],
        base_model=base_model.section(data, main),
        spread_rows=seed_spread.rows(data.results, data.spread) if data.spread else [],
        main_numbers=_number_table(data, main),
        further_numbers=_number_table(data, [name for name in names if name not in main]),
        legend=tables.LEGEND,
        attack_summary=summary_table(data.results),
        summary_legend=SUMMARY_LEGEND,
        inside=[each for each in (drawn.layers, drawn.relearning) if each.svg is not None],
        relearning=relearning_sentences(data),
        attacks=_attacks(data, [name for name in main if not is_layer_number(name)]),
        attack_legend=LEGEND,
        attack_picture=drawn.attacks,
        requests=requests.section(data.sequence, data.served, drawn.requests),
        pictures=drawn.figures,
        slim=slim.section(data, _number_table(data, slim.shown_numbers(data))),
        extraction=extraction.section(data.said if data.texts else {}),
        known=known_facts.section(data.known),
        neighbours=neighbours.section(data.neighbours),
        selection=section(choice),
        rounds=rounds.section(data.loop, drawn.rounds),
        questions=questions(data),
        settings=_settings(data),
        definitions=_definitions(data),
        role_names=[ROLE_NAMES[role] for role in ROLES],
    )


def _stats(data: ReportData) -> list[Stat]:
    """Format the key numbers before and after, the most trusted first, without those missing after unlearning."""
    stats = []
    first = leading([each.name for each in data.results.definitions if each.main], data.trust)
    for name in dict.fromkeys((*first, *STATS)):
        before, after = (number(data.results, role, name) for role in ("target", "unlearned"))
        if after is None:
            continue
        share = kept_share(data.results, name) if name == "model_utility" else None
        stats.append(
            Stat(
                label(data.results, name),
                "" if before is None else format_value(name, before),
                format_value(name, after),
                "" if share is None else f", {share:.0%} kept",
            )
        )
    return stats


def _attacks(data: ReportData, names: Sequence[str]) -> list[Attacked]:
    """Format the numbers after every attack."""
    return [
        Attacked(title, text, changes, _number_table(data, names, condition))
        for (title, changes), (condition, text) in zip(
            attack_tables(data.results), data.results.conditions.items(), strict=True
        )
    ]


def _number_table(data: ReportData, names: Sequence[str], condition: str = "") -> NumberTable:
    """Format numbers of all roles, possibly after an attack, with reasons for missing ones."""
    lines, reasons = tables.lines(data.results, names, condition)
    rows: list[NumberRow] = []
    group = None
    for line in lines:
        kind = line.name.split("/")[0] if "/" in line.name else ""
        cells = [
            NumberCell(text, note, _interval(data, str(Subject(role, condition)), line.name))
            for role, text, note in zip(ROLES, line.cells, line.notes, strict=True)
        ]
        rows.append(NumberRow(line.label, line.arrow, line.unit, cells, group is not None and kind != group))
        group = kind
    return NumberTable(rows, reasons)


def _interval(data: ReportData, subject: str, name: str) -> tuple[str, str] | None:
    """Format both ends of a number's bootstrap interval; ``None`` without an interval or number."""
    interval = data.intervals.get(subject, {}).get(name)
    if interval is None or number(data.results, subject, name) is None:
        return None
    low, high = interval
    return format_value(name, low), format_value(name, high)


def _settings(data: ReportData) -> list[tuple[str, str, str]]:
    """List (dotted path, value, origin) of every setting, then origins that belong to no setting."""
    rows, seen = [], set()
    for path, value in flatten(data.settings).items():
        last = path.rsplit(".", 1)[-1]
        known = path if path in data.settings_origin else last
        seen.add(known)
        rows.append((path, _value(value), data.settings_origin.get(known, "")))
    return rows + [(name, DASH, text) for name, text in data.settings_origin.items() if name not in seen]


def _value(value: Any) -> str:
    """Format a setting as in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _definitions(data: ReportData) -> list[tuple[Definition, list[str]]]:
    """List the definition of every number with the labels of the numbers that share it."""
    shared: dict[Definition, list[str]] = {}
    for known in data.results.definitions:
        shared.setdefault(replace(known, name="", label="", order=0, main=False), []).append(known.label)
    return list(shared.items())
