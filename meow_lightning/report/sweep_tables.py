"""Tables of a sweep: the numbers of every run, and means over runs that differ only in the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from meow_lightning.config.schema import RunConfig
from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.data import DASH, arrow, format_value, label, number, readable_name, why_missing
from meow_lightning.report.verdict import target_knows
from meow_lightning.types import Results

T = TypeVar("T")
COLUMNS = (
    "forget_quality_log10", "model_utility", "forget/value_accuracy", "forget/leakage", "retain/value_accuracy",
    "forget/extraction_strength", "forget/rouge_l_recall", "retain/rouge_l_recall", "forget/fluency",
    "privacy_leakage/min_k_40", "memo/answers",
)  # fmt: skip

Runs = Sequence[tuple[str, Results]]
Nested = Mapping[str, Mapping[str, Sequence[float]]]  # run name (of means: without the seed) -> number -> (low, high)
Unfinished = Mapping[str, str]  # reason by name of a run without numbers
Table = tuple[str, list[list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One finished run of a sweep.

    Attributes:
        name: The options that distinguish it from other runs.
        words: All options that the sweep set, value by name.
        config: Its options.
        results: Its numbers.
    """

    name: str
    words: Mapping[str, str]
    config: RunConfig
    results: Results


def tables(
    runs: Runs, *, columns: Sequence[str], ends: bool, nested: Nested, per_run: Nested, unfinished: Unfinished
) -> list[Table]:
    """Build (title, rows with header) of a sweep: its runs, then means over seeds if there are several.

    Both follow again for every attack of the runs. Runs without numbers are rows of dashes, and a mean that lacks some
    of its seeds says so.

    Args:
        runs: Name and numbers of every run, in row order.
        columns: Names of the numbers.
        ends: Whether to show the range below each mean, and the interval below that.
        nested: Interval of each mean over seeds and questions, by run name without the seed; may be incomplete.
        per_run: Interval over questions, by run name, shown below each run's numbers; may be incomplete.
        unfinished: The runs without numbers; their reasons are not shown here.
    """
    listed = _of_condition(
        runs, columns, ends=ends, nested=nested, per_run=per_run, unfinished=unfinished, condition=""
    )
    labels = {name: text for _, results in runs for name, text in results.conditions.items()}
    for condition, text in labels.items():
        attacked = [(name, results) for name, results in runs if condition in results.conditions]
        found = _of_condition(attacked, columns, ends=ends, nested={}, per_run={}, unfinished={}, condition=condition)
        listed += [(f"{title}, {text}", rows) for title, rows in found]
    return listed


def _of_condition(
    runs: Runs, columns: Sequence[str], *, ends: bool, nested: Nested, per_run: Nested, unfinished: Unfinished,
    condition: str,
) -> list[Table]:  # fmt: skip
    """Build the tables of the unlearned models themselves, or after one attack."""
    subject = str(Subject("unlearned", condition))
    listed = [
        (
            f"{_count(runs, unfinished)}, the unlearned model's numbers"
            + ", interval over questions below" * any(per_run.values()),
            [*_run_rows(runs, columns, subject, per_run), *([name, *[DASH] * len(columns)] for name in unfinished)],
        )
    ]
    groups = _without_seed(runs, unfinished)
    if any(len(group) > 1 for group in groups.values()):
        seeds = max(map(len, groups.values()))
        below = ", lowest and highest below, then the interval of the mean over seeds and questions" if ends else ""
        listed.append(
            (
                f"means over up to {seeds} seeds{below}",
                _means(groups, columns, subject, nested=nested if ends else None, names=row_names(runs, unfinished)),
            )
        )
    return listed


def _count(runs: Runs, unfinished: Unfinished) -> str:
    """Format the number of runs, and of how many if some have no numbers."""
    if unfinished:
        return f"{len(runs)} of {len(runs) + len(unfinished)} runs"
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def _run_rows(runs: Runs, columns: Sequence[str], subject: str, per_run: Nested) -> list[list[str]]:
    rows = [_header(runs, columns)]
    for words, results in runs:
        values = [(name, number(results, subject, name)) for name in columns]
        unknown = "" if target_knows(results) else " (meaningless: facts not known)"
        rows.append(
            [words + unknown, *(DASH if value is None else format_value(name, value) for name, value in values)]
        )
        if ends := per_run.get(words):
            rows.append(["", *(_bracket(name, ends.get(name)) for name in columns)])
    return rows


def _means(
    groups: dict[str, list[Results]], columns: Sequence[str], subject: str, *, nested: Nested | None,
    names: Mapping[str, str],
) -> list[list[str]]:  # fmt: skip
    rows = [_header([(words, results) for words, group in groups.items() for results in group], columns)]
    for words, group in groups.items():
        means, below = [names[words]], [""]
        for name in columns:
            known = [value for results in group if (value := number(results, subject, name)) is not None]
            means.append(format_value(name, sum(known) / len(known)) if known else DASH)
            below.append(
                f"{format_value(name, min(known))} to {format_value(name, max(known))}" if len(known) > 1 else ""
            )
        rows += [means] if nested is None else [means, below]
        if nested and words in nested:
            rows.append(["", *(_bracket(name, nested[words].get(name)) for name in columns)])
    return rows


def _bracket(name: str, ends: Sequence[float] | None) -> str:
    """Format an interval in brackets, or an empty string."""
    return "" if ends is None else f"[{format_value(name, ends[0])}, {format_value(name, ends[1])}]"


def _header(runs: Runs, columns: Sequence[str]) -> list[str]:
    arrows = {name: next((found for _, results in runs if (found := arrow(results, name))), "") for name in columns}
    known = {each.name: each.label for _, results in runs for each in results.definitions}
    labels = {name: known.get(name, readable_name(name)) for name in columns}
    return ["run", *(f"{labels[name]} {arrows[name]}".rstrip() for name in columns)]


def _without_seed(runs: Runs, unfinished: Unfinished) -> dict[str, list[Results]]:
    """Group the numbers of runs that differ only in the seed by their name without it."""
    groups = by_row(runs)
    for words in unfinished:
        groups.setdefault(without_seed(words), [])
    return groups


def row_names(runs: Runs, unfinished: Unfinished) -> dict[str, str]:
    """Name the rows of means by the run names without seed, with how many of the seeds finished if some did not."""
    finished = Counter(without_seed(name) for name, _ in runs)
    absent = Counter(map(without_seed, unfinished))
    return {
        name: name + (f" ({finished[name]} of {finished[name] + absent[name]} seeds)" if absent[name] else "")
        for name in [*finished, *(name for name in absent if name not in finished)]
    }


def missing_reasons(runs: Runs, columns: Sequence[str]) -> list[str]:
    """Explain why numbers of the unlearned models are missing, one line per reason.

    Args:
        runs: Name and numbers of every run.
        columns: Names of the numbers.
    """
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for name, results in runs:
        for column in columns:
            if number(results, "unlearned", column) is None:
                labels, names = found.setdefault(why_missing(results, "unlearned", column), ({}, {}))
                labels[label(results, column)] = names[name] = None
    return [
        f"not measured: {', '.join(labels)} in {'all runs' if len(names) == len(runs) else '; '.join(names)} ({reason})"
        for reason, (labels, names) in found.items()
    ]


def by_row(named: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Group what belongs to runs that differ only in the seed by their name without it, in order.

    Args:
        named: Name of a run, and what belongs to it.
    """
    rows: dict[str, list[T]] = {}
    for name, each in named:
        rows.setdefault(without_seed(name), []).append(each)
    return rows


def seed_of(name: str) -> str:
    """Return the seed in a run's name; empty if it has none."""
    return next((word.removeprefix("seed=") for word in name.split() if word.startswith("seed=")), "")


def without_seed(name: str) -> str:
    """Remove the seed from a run's name; ``all`` if nothing is left."""
    return " ".join(word for word in name.split() if not word.startswith("seed=")) or "all"
