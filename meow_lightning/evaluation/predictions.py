"""Stored prediction rows of a model: JSON lines that round-trip exactly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError, shorten_list
from meow_lightning.types import AnswerRow, Likelihood


def write_rows(path: Path, rows: Iterable[AnswerRow]) -> None:
    """Write rows as JSON lines in UTF-8; floats round-trip exactly.

    Args:
        path: File to write; an existing one is replaced.
        rows: Prediction rows, in the order in which to store them.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=_to_json) + "\n" for row in rows)


def read_rows(path: Path) -> list[AnswerRow]:
    """Read the rows of a file written by :func:`write_rows`, in its order; sequences become tuples.

    Args:
        path: File to read.

    Raises:
        UserError: The file does not exist, or a line is not a row.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the stage `predict` first")
    rows = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(_row(json.loads(line)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"line {number} of {path} is not a prediction row of this version ({error}): delete the file and "
                    "run the stage `predict` again"
                ) from error
    return rows


def by_set(rows: Iterable[AnswerRow]) -> dict[str, list[AnswerRow]]:
    """Group rows by evaluation set, sorted by index; sets in order of first occurrence.

    Args:
        rows: Prediction rows in any order, since several processes may have written them.

    Raises:
        UserError: An index of a set is missing or occurs twice.
    """
    sets: dict[str, list[AnswerRow]] = {}
    for row in rows:
        sets.setdefault(row.set, []).append(row)
    for name, members in sets.items():
        members.sort(key=lambda row: row.index)
        counts = Counter(row.index for row in members)
        duplicated = [index for index, count in counts.items() if count > 1]
        missing = [index for index in range(max(counts) + 1) if index not in counts]
        for indices, problem in ((duplicated, "more than once"), (missing, "not at all")):
            if indices:
                raise UserError(
                    f"set {name!r} contains {_some(indices)} {problem}; expected every index from 0 to {max(counts)} "
                    "once: delete these predictions and run the stage `predict` again"
                )
    return sets


def _some(indices: list[int]) -> str:
    """Format indices as ``index 3`` or ``indices 3, 4, 5 and 7 more``."""
    return f"{'index' if len(indices) == 1 else 'indices'} {shorten_list([*map(str, indices)], most=3)}"


def _to_json(value: Any) -> Any:
    # dataclasses.asdict would copy every float of every likelihood one by one
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if hasattr(value, "tolist"):  # arrays and their scalars
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be stored in a prediction row")


def _row(stored: dict[str, Any]) -> AnswerRow:
    values = dict(stored)
    values["truth"] = _likelihood(values["truth"])
    values["paraphrase"] = None if values["paraphrase"] is None else _likelihood(values["paraphrase"])
    values["perturbed"] = tuple(_likelihood(wrong) for wrong in values["perturbed"])
    values["generated"] = tuple(values["generated"])
    values["values"] = tuple(values.get("values", ()))  # rows of datasets without them may be older
    return AnswerRow(**values)


def _likelihood(stored: dict[str, Any]) -> Likelihood:
    return Likelihood(**{name: tuple(values) for name, values in stored.items()})
