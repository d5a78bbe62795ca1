"""A sweep's numbers as CSV, in full precision, and as a LaTeX table."""

from __future__ import annotations

import csv as csv_format
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import DASH, definition, format_value, label, number
from meow_lightning.report.sweep_tables import Nested, Runs, without_seed
from meow_lightning.report.verdict import target_knows

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{each: f"\\{each}" for each in "&%$#_{}"},
}  # fmt: skip
ARROWS = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}
SIGN = {"higher": 1.0, "lower": -1.0}


def csv(runs: Runs, intervals: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Render every number of the unlearned models: ``run,seed,condition,metric,direction,unit,value,low,high``.

    Args:
        runs: Name and numbers of every run.
        intervals: Interval over questions (low, high) by run and number.
    """
    out = io.StringIO()
    table = csv_format.writer(out, lineterminator="\n")
    table.writerow(["run", "seed", "condition", "metric", "direction", "unit", "value", "low", "high"])
    for name, results in runs:
        seed = next((word.removeprefix("seed=") for word in name.split() if word.startswith("seed=")), "")
        for condition in ("", *results.conditions):
            for metric, value in results.values.get(str(Subject("unlearned", condition)), {}).items():
                known = definition(results, metric)
                ends = intervals.get(name, {}).get(metric, ("", "")) if not condition else ("", "")
                about = (known.direction, known.unit) if known else ("", "")
                table.writerow([without_seed(name), seed, condition, metric, *about, repr(value), *map(str, ends)])
    return out.getvalue()


@dataclass(frozen=True, slots=True)
class _Column:
    """One metric of a table: its heading, and its mean by row name.

    ``best`` and ``second`` are the formatted numbers to mark; empty where the metric has no direction.
    """

    name: str
    heading: str
    means: Mapping[str, float]
    best: str
    second: str


def latex(runs: Runs, columns: Sequence[str], nested: Nested, *, references: Collection[str]) -> str:
    """Render means over seeds as a booktabs table: per metric, the best in bold and the second underlined.

    References and runs whose target model does not know the facts are listed but never marked. Equal formatted numbers
    share a mark.

    Args:
        runs: Name and numbers of every run, in row order.
        columns: Names of the numbers; those that no run has are left out.
        nested: Interval of each mean over seeds and questions, by row name; may be incomplete.
        references: Names of the runs that unlearn nothing: the target and the retain model.
    """
    names = list(dict.fromkeys(without_seed(name) for name, _ in runs))
    shown = [column for each in columns if (column := _column(runs, each, references)).means]
    rows = [" & ".join(["run", *(column.heading for column in shown)]) + r" \\", r"\midrule"]
    for name in names:
        cells = [_cell(column, name, nested.get(name, {}).get(column.name)) for column in shown]
        rows.append(" & ".join([_escape(name), *cells]) + r" \\")
    body = "\n".join(rows)
    return (
        f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{'r' * len(shown)}}}\n\\toprule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _column(runs: Runs, metric: str, references: Collection[str]) -> _Column:
    """Compute the means of a metric over seeds, and which to mark."""
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
    ranked = sorted(
        {format_value(metric, means[name]) for name in meaningful if direction in SIGN},
        key=lambda text: -SIGN[direction] * float(text),
    )
    first, second, *_ = [*ranked, "", ""]
    return _Column(metric, _escape(heading) + ARROWS.get(direction, ""), means, first, second)


def _cell(column: _Column, name: str, ends: Sequence[float] | None) -> str:
    if name not in column.means:
        return DASH
    text = format_value(column.name, column.means[name])
    shown = text.replace("-", "$-$")
    marked = (
        rf"\textbf{{{shown}}}" if text == column.best
        else rf"\underline{{{shown}}}" if text == column.second
        else shown
    )  # fmt: skip
    if ends is None:
        return marked
    low, high = (format_value(column.name, end).replace("-", "$-$") for end in ends)
    return rf"{marked} {{\scriptsize [{low}, {high}]}}"


def _escape(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: SPECIAL[found[0]], text)
