"""A sweep's numbers as CSV, in full precision, and as a LaTeX table."""

from __future__ import annotations

import csv as csv_format
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import DASH, definition, format_value, label, number
from meow_lightning.report.sweep_tables import Nested, Runs, Unfinished, row_names, seed_of, without_seed
from meow_lightning.report.verdict import target_knows

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
}  # fmt: skip
ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}
SIGN = {"higher": 1.0, "lower": -1.0}


CSV_COLUMNS = ("run", "seed", "condition", "metric", "direction", "unit", "value", "low", "high", "missing")


def csv(runs: Runs, intervals: Mapping[str, Mapping[str, Sequence[float]]], *, unfinished: Unfinished) -> str:
    """Render every number of the unlearned models, one per line, with the columns ``CSV_COLUMNS``.

    A number that was not measured has no value and a reason; a run without numbers is one such line.

    Args:
        runs: Name and numbers of every run.
        intervals: Interval over questions (low, high) by run and number.
        unfinished: The runs without numbers.
    """
    out = io.StringIO()
    table = csv_format.writer(out, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for name, results in runs:
        for condition in ("", *results.conditions):
            for metric, value in results.values.get(str(Subject("unlearned", condition)), {}).items():
                known = definition(results, metric)
                ends = intervals.get(name, {}).get(metric, ("", "")) if not condition else ("", "")
                about = (known.direction, known.unit) if known else ("", "")
                row = [without_seed(name), seed_of(name), condition, metric, *about, repr(value), *map(str, ends)]
                table.writerow([*row, ""])
            for metric, reason in results.missing.get(str(Subject("unlearned", condition)), {}).items():
                known = definition(results, metric)
                about = (known.direction, known.unit) if known else ("", "")
                table.writerow([without_seed(name), seed_of(name), condition, metric, *about, "", "", "", reason])
    for name, reason in unfinished.items():
        table.writerow([without_seed(name), seed_of(name), *[""] * 7, reason])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class Column:
    """One metric of a table.

    Attributes:
        name: The metric.
        label: Its label.
        direction: Whether ``higher`` or ``lower`` is better; else the metric has no best row.
        means: Its mean over seeds, by run name without the seed.
        best: Rows with the best formatted mean.
        second: Rows with the second best.
    """

    name: str
    label: str
    direction: str
    means: Mapping[str, float]
    best: Collection[str]
    second: Collection[str]


def latex(
    runs: Runs, columns: Sequence[str], nested: Nested, *, references: Collection[str], unfinished: Unfinished
) -> str:
    """Render means over seeds as a booktabs table: per metric, the best in bold and the second underlined.

    References and runs whose target model does not know the facts are listed but never marked. Equal formatted numbers
    share a mark.

    Args:
        runs: Name and numbers of every run, in row order.
        columns: Names of the numbers; those that no run has are left out.
        nested: Interval of each mean over seeds and questions, by row name; may be incomplete.
        references: Names of the runs that unlearn nothing: the target and the retain model.
        unfinished: The runs without numbers.
    """
    shown = ranked_columns(runs, columns, references)
    headings = (_escape(column.label) + ARROWS.get(column.direction, "") for column in shown)
    rows = [" & ".join(["run", *headings]) + r" \\", r"\midrule"]
    for name, title in row_names(runs, unfinished).items():
        cells = [_cell(column, name, nested.get(name, {}).get(column.name)) for column in shown]
        rows.append(" & ".join([_escape(title), *cells]) + r" \\")
    body = "\n".join(rows)
    return (
        f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{'r' * len(shown)}}}\n\\toprule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def ranked_columns(runs: Runs, metrics: Sequence[str], references: Collection[str]) -> list[Column]:
    """Compute the columns of a table of runs; metrics that no run has are left out.

    Args:
        runs: Name and numbers of every run.
        metrics: Names of the numbers.
        references: Names of the runs that unlearn nothing.
    """
    return [found for name in metrics if (found := ranked_column(runs, name, references)).means]


def ranked_column(runs: Runs, metric: str, references: Collection[str]) -> Column:
    """Compute the means of a metric over seeds, and which rows are the best and the second best.

    Rows with equal formatted means share a rank. References and runs whose target model does not know the facts have
    none.

    Args:
        runs: Name and numbers of every run.
        metric: Its name.
        references: Names of the runs that unlearn nothing.
    """
    values: dict[str, list[float]] = {}
    meaningful = set()
    direction, heading = "", metric
    for name, results in runs:
        if known := definition(results, metric):
            direction, heading = known.direction, label(results, metric)
        if (value := number(results, "unlearned", metric)) is not None:
            values.setdefault(without_seed(name), []).append(value)
            if name not in references and target_knows(results):
                meaningful.add(without_seed(name))
    means = {name: sum(each) / len(each) for name, each in values.items()}
    rows: dict[str, list[str]] = {}
    for name in sorted(meaningful) if direction in SIGN else ():
        rows.setdefault(format_value(metric, means[name]), []).append(name)
    first, second, *_ = [*sorted(rows, key=lambda text: -SIGN[direction] * float(text)), "", ""]
    return Column(metric, heading, direction, means, rows.get(first, []), rows.get(second, []))


def _cell(column: Column, name: str, ends: Sequence[float] | None) -> str:
    if name not in column.means:
        return DASH
    shown = format_value(column.name, column.means[name]).replace("-", "$-$")
    marked = (
        rf"\textbf{{{shown}}}" if name in column.best
        else rf"\underline{{{shown}}}" if name in column.second
        else shown
    )  # fmt: skip
    if ends is None:
        return marked
    low, high = (format_value(column.name, end).replace("-", "$-$") for end in ends)
    return rf"{marked} {{\scriptsize [{low}, {high}]}}"


def _escape(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)
