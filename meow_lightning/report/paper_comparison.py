"""Comparison of a sweep's numbers with published ones for the same model, facts and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meow_lightning.config.recipes import RECIPE, method_recipe
from meow_lightning.report.data import DASH, arrow, format_value, label, number
from meow_lightning.report.sweep_tables import Swept, Table

Figures = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Published numbers of one source.

    Attributes:
        source: Short reference.
        note: How the numbers were obtained, and differences to our setup.
        dataset: Name of the dataset.
        truth_ratio_mean: Averaging of wrong answers in the truth ratio.
        figures: The unlearned model's numbers by model, split, method and name.
        settings: Dotted options that a run must have besides, by value.
    """

    source: str
    note: str
    dataset: str
    truth_ratio_mean: str
    figures: Figures
    settings: Mapping[str, Any] = field(default_factory=dict)


def paper_figures(runs: Sequence[Swept], sources: Sequence[Published]) -> tuple[Table, list[str]] | None:
    """Build the table of our numbers and published ones, with notes on the sources; ``None`` if nothing matches.

    Args:
        runs: All finished runs.
        sources: Published numbers.
    """
    rows, used = [["run", "number", "ours", "published", "source"]], []
    for run in runs:
        for source in sources:
            for name, value in comparable_run(run, source).items():
                ours = number(run.results, "unlearned", name)
                metric = f"{label(run.results, name)} {arrow(run.results, name)}".rstrip()
                formatted = DASH if ours is None else format_value(name, ours)
                rows.append([run.name, metric, formatted, format_value(name, value), source.source])
                used.append(f"{source.source}: {source.note}")
    return (("compared with published numbers", rows), list(dict.fromkeys(used))) if used else None


def comparable_run(run: Swept, source: Published) -> Mapping[str, float]:
    """Look up a source's numbers for a run's model, dataset, split, method and settings; empty for truncated runs."""
    config = run.config
    authors = config.dataset.arguments.get("retain_authors")
    cut_short = config.limit is not None or authors is not None or bool(config.disclaimer)
    measured = (config.dataset.name, config.evaluation.truth_ratio_mean)
    if cut_short or measured != (source.dataset, source.truth_ratio_mean):
        return {}
    found = source.figures.get(config.model.name, {}).get(config.dataset.split, {}).get(config.method.name, {})
    return found if found and all(_value(run, name) == value for name, value in source.settings.items()) else {}


def _value(run: Swept, option: str) -> Any:
    """Look up an option of a run, with numbers of the recipe as unlearning used them; ``None`` without it."""
    name = option.removeprefix("optim.")
    if name in RECIPE:
        return method_recipe(run.config, name)[0]
    node: Any = run.config.plain()
    for part in option.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node
