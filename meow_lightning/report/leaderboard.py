"""Leaderboard over the runs of a store: in each group only what may be compared, as a page, Markdown and CSV."""

from __future__ import annotations

import csv as csv_format
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from markupsafe import Markup

from meow_lightning.report.data import flatten
from meow_lightning.report.seed_spread import without_seeds
from meow_lightning.report.sweep_formats import CSV_COLUMNS, Column, csv, ranked_columns
from meow_lightning.report.sweep_page import Row, heads, ranked_rows
from meow_lightning.report.sweep_tables import Nested
from meow_lightning.report.tables import CLOSING, benchmark_names
from meow_lightning.report.templating import render_template
from meow_lightning.types import Results

COMPARED = ("dataset", "model", "evaluation", "memo", "protocol")  # options that must be equal in a group
TITLE = ("dataset.name", "dataset.split", "model.name")
NAMED = ("method", "optim", "inversion")  # options that distinguish the rows of a method

Measure = Mapping[str, Any]  # everything that must be equal in a group, flat


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A finished run.

    Attributes:
        key: Key of its report.
        options: The options that determine its numbers, nested; for private data those that may be shared.
        evaluated: Version of the evaluation and further conditions of the measurement, by name.
        results: Its numbers.
        intervals: Interval of the unlearned model's numbers over questions, by number.
        reference: Whether it unlearns nothing.
        page: Address of its page, relative to the leaderboard; empty without one.
    """

    key: str
    options: Mapping[str, Any]
    evaluated: Mapping[str, str]
    results: Results
    intervals: Mapping[str, Sequence[float]]
    reference: bool
    page: str

    @property
    def measure(self) -> Measure:
        """Properties that comparable runs share; seeds are none of them."""
        compared = without_seeds({name: self.options[name] for name in COMPARED if name in self.options})
        return {**flatten(compared), **self.evaluated}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that may be compared.

    Attributes:
        title: Dataset, split and model.
        details: Settings in which groups of the same title differ.
        entries: The runs by row name, which has the seed.
    """

    title: str
    details: Sequence[str]
    entries: Mapping[str, Entry]

    @cached_property
    def columns(self) -> list[Column]:
        """List the metrics that any run has, with the best rows."""
        runs = [(name, entry.results) for name, entry in self.entries.items()]
        further = benchmark_names(results for _, results in runs)
        references = [name for name, entry in self.entries.items() if entry.reference]
        return ranked_columns(runs, [*CLOSING, *further], references)


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Group the runs by what may be compared, and name them.

    Args:
        entries: The runs.
    """
    by_measure: dict[str, list[Entry]] = {}
    for entry in entries:
        by_measure.setdefault(json.dumps(entry.measure, sort_keys=True, default=str), []).append(entry)
    titled: dict[str, list[list[Entry]]] = {}
    for _, members in sorted(by_measure.items()):
        titled.setdefault(_title(members[0].measure), []).append(members)
    return [
        Group(title=title, details=_details(each[0].measure, [one[0].measure for one in alike]), entries=_named(each))
        for title, alike in sorted(titled.items())
        for each in sorted(alike, key=lambda members: -max(map(_order, members)))
    ]  # fmt: skip


def _order(entry: Entry) -> int:
    """Order groups of one title by the version of their evaluation."""
    return int(entry.evaluated["evaluation version"])


def _title(measure: Measure) -> str:
    return ", ".join(str(measure[name]) for name in TITLE if measure.get(name) is not None)


def _details(measure: Measure, alike: Sequence[Measure]) -> list[str]:
    """List the settings in which groups of one title differ, and a disclaimer if there is one."""
    names = dict.fromkeys(name for each in alike for name in each)
    differing = [name for name in names if len({str(each.get(name)) for each in alike}) > 1 or name == "disclaimer"]
    return [f"{name}: {measure[name]}" for name in differing if measure.get(name) is not None]


def _named(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Name runs by method, by the options in which the runs of their method differ, and by seed."""
    methods: dict[str, list[Entry]] = {}
    for entry in entries:
        methods.setdefault(str(entry.options["method"]["name"]), []).append(entry)
    named: dict[str, Entry] = {}
    references_first = sorted(methods, key=lambda method: (not methods[method][0].reference, method))
    for method in references_first:
        flat = {
            each.key: flatten(without_seeds({name: each.options.get(name, {}) for name in NAMED}))
            for each in methods[method]
        }
        options = dict.fromkeys(option for values in flat.values() for option in values)
        differing = [name for name in options if len({str(values.get(name)) for values in flat.values()}) > 1]
        for entry in sorted(methods[method], key=lambda each: (each.options["seed"], each.key)):
            words = [f"{name}={flat[entry.key][name]}" for name in differing if name in flat[entry.key]]
            # A space would separate two options of a row's name.
            name = " ".join([f"method={method}", *(word.replace(" ", "") for word in words)])
            seed = f" seed={entry.options['seed']}"
            taken = f"{name}{seed}" in named
            named[f"{name} run={entry.key[:6]}{seed}" if taken else f"{name}{seed}"] = entry
    return named


def rows(group: Group, intervals: Nested) -> list[Row]:
    """Build the rows of a group: means over seeds, with best and second marked, and links to the pages of the runs.

    Args:
        group: The runs.
        intervals: Interval of each mean, by row name; may be incomplete.
    """
    return ranked_rows(
        list(group.entries), group.columns, intervals=intervals, front=(), costs={},
        references={name for name, entry in group.entries.items() if entry.reference},
        pages={name: entry.page for name, entry in group.entries.items() if entry.page},
    )  # fmt: skip


def page(groups: Sequence[tuple[Group, Nested]], lines: Sequence[str]) -> Markup:
    """Render the leaderboard as one self-contained HTML file.

    Args:
        groups: The groups with the intervals of their means, by row name.
        lines: Lines about the whole.
    """
    shown = [(group, heads(group.columns), rows(group, intervals)) for group, intervals in groups]
    return render_template("leaderboard.html", groups=shown, lines=lines)


def markdown(groups: Sequence[tuple[Group, Nested]], lines: Sequence[str]) -> str:
    """Render the leaderboard in Markdown: per metric the best in bold, the second underlined.

    Args:
        groups: The groups with the intervals of their means, by row name.
        lines: Lines about the whole.
    """
    parts = ["# Leaderboard\n", *(f"{line}\n" for line in lines)]
    for group, intervals in groups:
        titles = ["run", *(f"{label} {arrow}".rstrip() for label, arrow in heads(group.columns)), "pages"]
        body = [_markdown_row(row) for row in rows(group, intervals)]
        table = "".join(f"| {' | '.join(cells)} |\n" for cells in (titles, ["---"] * len(titles), *body))
        details = f"{'; '.join(group.details)}\n\n" if group.details else ""
        parts.append(f"## {group.title}\n\n{details}{table}")
    return "\n".join(parts)


def _markdown_row(row: Row) -> list[str]:
    marks = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    cells = [
        " ".join([marks[cell.mark].format(cell.text), *(f"[{each.replace(' to ', ', ')}]" for each in cell.below)])
        for cell in row.cells
    ]
    links = ", ".join(f"[{name}]({address})" for name, address in row.pages) or "—"
    return [row.name.replace("|", "\\|"), *cells, links]


def as_csv(groups: Sequence[tuple[Group, Nested]]) -> str:
    """Render every number of every run in full precision, with the group and the page of the run.

    Args:
        groups: The groups; intervals are those over questions of each run.
    """
    out = io.StringIO()
    table = csv_format.writer(out, lineterminator="\n")
    table.writerow(["group", *CSV_COLUMNS])
    for group, _ in groups:
        runs = [(name, entry.results) for name, entry in group.entries.items()]
        per_run = {name: entry.intervals for name, entry in group.entries.items()}
        name = "; ".join([group.title, *group.details])
        _, *body = csv_format.reader(io.StringIO(csv(runs, per_run, unfinished={})))
        table.writerows([name, *row] for row in body)
    return out.getvalue()
