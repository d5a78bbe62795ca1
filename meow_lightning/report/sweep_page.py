"""Page of a sweep: methods by metrics, what they keep against what they forget, their cost, and links to their runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from meow_lightning.report.data import ARROWS, DASH, format_value
from meow_lightning.report.svg import Picture
from meow_lightning.report.sweep_cost import Cost, mean_cost
from meow_lightning.report.sweep_figures import Plane, plane_picture
from meow_lightning.report.sweep_formats import SIGN, Column, ranked_column, ranked_columns
from meow_lightning.report.sweep_tables import Nested, Runs, Table, Unfinished, by_row, seed_of, without_seed
from meow_lightning.report.templating import render_template
from meow_lightning.report.verdict import SIGNIFICANCE, target_knows


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepContent:
    """Content of the page of a sweep.

    Attributes:
        name: Name of the sweep.
        runs: Name and numbers of every run, in row order.
        columns: Names of the numbers in the main table.
        intervals: Interval of each mean, by run name without the seed; may be incomplete.
        references: Names of the runs that unlearn nothing.
        pages: Relative address of a run's own page, by its name; may be incomplete.
        costs: Cost of unlearning by the run's name; without runs that did not unlearn.
        tables: The sweep's further tables.
        lines: Lines below the tables.
        command: The command that computes the sweep.
        unfinished: The runs without numbers.
        disclaimers: What is shown above all numbers.
    """

    name: str
    runs: Runs
    columns: Sequence[str]
    intervals: Nested
    references: Collection[str]
    pages: Mapping[str, str]
    costs: Mapping[str, Cost]
    tables: Sequence[Table]
    lines: Sequence[str]
    command: str
    unfinished: Unfinished
    disclaimers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A formatted number: ``mark`` is ``best``, ``second`` or empty, ``below`` has the lines in small print."""

    text: str
    mark: str
    below: Sequence[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One method with its settings.

    Attributes:
        name: Options that distinguish it, without the seed.
        front: Whether it is on the Pareto front of the first plane.
        reference: Whether it unlearns nothing.
        cells: Its numbers.
        cost: The cost of unlearning, as mean over its runs; ``None`` without any.
        pages: (seed or ``report``, address) of its runs' pages.
    """

    name: str
    front: bool
    reference: bool
    cells: Sequence[Cell]
    cost: Cost | None
    pages: Sequence[tuple[str, str]]


def sweep_page(content: SweepContent, pictures: Sequence[Picture]) -> Markup:
    """Render the page as one self-contained HTML file.

    Args:
        content: The content.
        pictures: Result of :func:`sweep_pictures`.
    """
    columns = ranked_columns(content.runs, content.columns, content.references)
    planes = _planes(content)
    front = planes[0].front(_candidates(content)) if planes else []
    return render_template(
        "sweep.html",
        content=content,
        heads=heads(columns),
        rows=ranked_rows(
            [*(name for name, _ in content.runs), *content.unfinished],
            columns,
            intervals=content.intervals,
            front=front,
            costs=content.costs,
            references=content.references,
            pages=content.pages,
        ),
        front=bool(front),
        pictures=pictures,
        tables=[(title, rows[0], stacked(rows[1:])) for title, rows in content.tables],
    )


def sweep_pictures(content: SweepContent) -> list[Picture]:
    """Draw the figures of a sweep."""
    candidates, references = _candidates(content), {without_seed(name) for name in content.references}
    return [
        plane_picture(plane, content.intervals, candidates=candidates, references=references)
        for plane in _planes(content)
    ]


def stacked(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
    """Put rows without a name below the row before them, so that each row can be moved with what belongs to it."""
    groups: list[list[Sequence[str]]] = []
    for row in rows:
        if row[0] or not groups:
            groups.append([row])
        else:
            groups[-1].append(row)
    return [
        [Cell(text, "", [each for each in below if each]) for text, *below in zip(*each, strict=True)]
        for each in groups
    ]


def _candidates(content: SweepContent) -> set[str]:
    """Collect the rows that may be on a front: those that unlearn, from a model that knows the facts."""
    return {
        without_seed(name) for name, results in content.runs if name not in content.references and target_knows(results)
    }


def _planes(content: SweepContent) -> list[Plane]:
    """List the planes whose metrics the sweep has: TOFU's, and that of retained and forgotten values."""
    utility, quality, retained, forgotten = (
        ranked_column(content.runs, name, content.references)
        for name in ("model_utility", "forget_quality_log10", "retain/value_accuracy", "forget/value_accuracy")
    )
    planes = [
        Plane("plane", "Forget quality and model utility", utility, quality, math.log10(SIGNIFICANCE)),
        Plane("values", "Retained and forgotten values", retained, forgotten),
    ]
    return [
        plane for plane in planes if plane.points and plane.kept.direction in SIGN and plane.forgotten.direction in SIGN
    ]


def heads(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """Return the label and the arrow of every column."""
    return [(column.label, ARROWS.get(column.direction, "")) for column in columns]


def ranked_rows(
    names: Sequence[str], columns: Sequence[Column], *, intervals: Nested, front: Collection[str],
    costs: Mapping[str, Cost], references: Collection[str], pages: Mapping[str, str],
) -> list[Row]:  # fmt: skip
    """Build the rows of a table of runs: means over seeds.

    Args:
        names: Names of the runs, in row order.
        columns: The metrics.
        intervals: Interval of each mean, by run name without the seed; may be incomplete.
        front: Rows on the Pareto front.
        costs: Cost of unlearning by run; may be incomplete.
        references: Names of the runs that unlearn nothing.
        pages: Address of a run's page; may be incomplete.
    """
    runs = by_row((name, name) for name in names)
    apart = {without_seed(name) for name in references}
    rows = []
    for row, members in runs.items():
        known = [costs[name] for name in members if name in costs]
        rows.append(
            Row(
                name=row,
                front=row in front,
                reference=row in apart,
                cells=[_cell(column, row, intervals.get(row, {}).get(column.name)) for column in columns],
                cost=mean_cost(known) if known else None,
                pages=[
                    (f"seed {seed}" if (seed := seed_of(name)) else "report", pages[name])
                    for name in members
                    if name in pages
                ],
            )
        )
    return rows


def _cell(column: Column, row: str, ends: Sequence[float] | None) -> Cell:
    if row not in column.means:
        return Cell(DASH, "", ())
    mark = "best" if row in column.best else "second" if row in column.second else ""
    below = [] if ends is None else [" to ".join(format_value(column.name, end) for end in ends)]
    return Cell(format_value(column.name, column.means[row]), mark, below)
