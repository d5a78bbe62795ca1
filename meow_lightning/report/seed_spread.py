"""Variation of a run's numbers over seeds, if it was measured for the run's settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from meow_lightning.config.files import EXPERIMENTS
from meow_lightning.errors import UserError
from meow_lightning.report.data import arrow, format_value, label, number
from meow_lightning.types import Results

FOLDER = EXPERIMENTS / "expected" / "seeds"
FIELDS = {"settings": str, "seeds": list, "numbers": Mapping, "intervals": Mapping}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The unlearned model's numbers over several seeds.

    Attributes:
        made: Date and library versions.
        command: The command.
        seeds: The seeds.
        numbers: The values by name, in the order of the seeds.
        intervals: The interval of the mean over seeds and questions by name, if any.
    """

    made: str
    command: str
    seeds: Sequence[int]
    numbers: Mapping[str, Sequence[float]]
    intervals: Mapping[str, Sequence[float]]


def without_seeds(node: Any) -> Any:
    """Remove all entries named ``seed`` from settings, at any depth."""
    if not isinstance(node, Mapping):
        return node
    return {name: without_seeds(value) for name, value in node.items() if name != "seed"}


def settings_digest(settings: Mapping[str, Any], versions: Iterable[tuple[str, int]]) -> str:
    """Hash a run's settings without seeds, and the versions of the stages behind its numbers.

    Args:
        settings: The settings shown in a report.
        versions: (stage, version) of every stage behind the numbers.
    """
    text = json.dumps([without_seeds(settings), sorted(set(versions))], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def rows(results: Results, spread: Spread) -> list[list[str]]:
    """Build a header and one row per common number: this run, mean, range, interval, inside or not."""
    table = [["", "this run", "mean", "lowest to highest", "interval of the mean", ""]]
    for name, values in spread.numbers.items():
        value = number(results, "unlearned", name)
        if value is None or not values:
            continue
        low, high = min(values), max(values)
        ends = spread.intervals.get(name)
        interval = f"{format_value(name, ends[0])} to {format_value(name, ends[1])}" if ends else ""
        table.append([
            f"{label(results, name)} {arrow(results, name)}".rstrip(), format_value(name, value),
            format_value(name, sum(values) / len(values)),
            f"{format_value(name, low)} to {format_value(name, high)}", interval,
            "inside" if low <= value <= high else "outside",
        ])  # fmt: skip
    return table


def spread_sentence(results: Results, spread: Spread) -> str:
    """Summarize the rows in one line, for the end of a run."""
    means = [f"{name} {mean} ({ends})" for name, _, mean, ends, _, _ in rows(results, spread)[1:]]
    outside = [row[0] for row in rows(results, spread)[1:] if row[-1] == "outside"]
    tail = f"this run lies outside in {', '.join(outside)}" if outside else "this run lies inside"
    return f"over {len(spread.seeds)} seeds, mean (lowest to highest): {', '.join(means)}; {tail}"


@lru_cache(maxsize=2)
def read_spreads(folder: Path) -> dict[str, dict[str, Any]]:
    """Read every file of a folder, by the digest of the settings it was measured with.

    Raises:
        UserError: A file is malformed.
    """
    spreads: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; fix or remove it") from error
        if not isinstance(content, Mapping) or not {"made", "command", "runs"} <= content.keys():
            raise UserError(f"{path} must contain made, command and runs; a sweep over seeds writes such files")
        for words, run in content["runs"].items():
            for name, kind in FIELDS.items():
                if not isinstance(run.get(name), kind):
                    raise UserError(f"{path}: runs.{words}.{name} is missing; a sweep over seeds writes such files")
            rest = {name: run[name] for name in ("seeds", "numbers", "intervals")}
            spreads[run["settings"]] = {"made": content["made"], "command": content["command"], **rest}
    return spreads
