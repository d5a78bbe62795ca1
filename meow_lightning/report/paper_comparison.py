"""Comparison of a sweep's numbers with published ones for the same model, facts and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    """

    source: str
    note: str
    dataset: str
    truth_ratio_mean: str
    figures: Figures


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
    """Look up a source's numbers for a run's model, dataset, split and method; empty for truncated runs."""
    config = run.config
    authors = config.dataset.arguments.get("retain_authors")
    cut_short = config.limit is not None or authors is not None or bool(config.disclaimer)
    measured = (config.dataset.name, config.evaluation.truth_ratio_mean)
    if cut_short or measured != (source.dataset, source.truth_ratio_mean):
        return {}
    return source.figures.get(config.model.name, {}).get(config.dataset.split, {}).get(config.method.name, {})
