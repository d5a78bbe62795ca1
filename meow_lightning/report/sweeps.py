"""A sweep's cells side by side: each with its numbers, and what differs in the seed alone as means."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.report.cells import DASH, arrow, label, number, written
from meow_lightning.types import Results

COLUMNS = (
    "forget_quality_log10", "model_utility", "forget/value_accuracy", "retain/value_accuracy",
    "forget/extraction_strength", "forget/rouge_l_recall", "retain/rouge_l_recall", "forget/fluency",
    "privacy_leakage/min_k_40", "memo/answers",
)  # fmt: skip

Cells = Sequence[tuple[str, Results]]
Table = tuple[str, list[list[str]]]


def tables(cells: Cells) -> list[Table]:
    """(title, rows with the header first) of a sweep: its cells, then the means over seeds where there are several.

    Args:
        cells: Words and numbers of every cell, in the order of the rows.
    """
    found = [(f"{len(cells)} cells, the unlearned model's numbers", _cells(cells))]
    groups = _without_seed(cells)
    if any(len(each) > 1 for each in groups.values()):
        seeds = max(map(len, groups.values()))
        found.append((f"means over up to {seeds} seeds, lowest and highest below", _means(groups)))
    return found


def _cells(cells: Cells) -> list[list[str]]:
    rows = [
        [words, *(DASH if value is None else written(name, value) for name, value in _numbers(results))]
        for words, results in cells
    ]
    return [_header(cells), *rows]


def _means(groups: dict[str, list[Results]]) -> list[list[str]]:
    rows = [_header([(words, results) for words, each in groups.items() for results in each])]
    for words, each in groups.items():
        columns = [[value for value in values if value is not None] for values in _columns(each)]
        means = [written(name, sum(v) / len(v)) if v else DASH for name, v in zip(COLUMNS, columns, strict=True)]
        ends = [
            f"{written(name, min(v))} to {written(name, max(v))}" if len(v) > 1 else ""
            for name, v in zip(COLUMNS, columns, strict=True)
        ]
        rows += [[words, *means], ["", *ends]]
    return rows


def _columns(each: Sequence[Results]) -> list[list[float | None]]:
    return [[number(results, "unlearned", name) for results in each] for name in COLUMNS]


def _numbers(results: Results) -> list[tuple[str, float | None]]:
    return [(name, number(results, "unlearned", name)) for name in COLUMNS]


def _header(cells: Cells) -> list[str]:
    arrows = {name: next((found for _, results in cells if (found := arrow(results, name))), "") for name in COLUMNS}
    return ["cell", *(f"{label(name)} {arrows[name]}".rstrip() for name in COLUMNS)]


def _without_seed(cells: Cells) -> dict[str, list[Results]]:
    """The numbers of the cells whose words differ in the seed alone, by these words."""
    groups: dict[str, list[Results]] = {}
    for words, results in cells:
        rest = " ".join(word for word in words.split() if not word.startswith("seed="))
        groups.setdefault(rest or "all", []).append(results)
    return groups
