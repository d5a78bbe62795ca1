"""The model card of an unlearned model: its numbers with their definitions, its settings, its licence, its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.report.data import DASH, arrow, flatten, format_value, label, number
from meow_lightning.report.tables import CLOSING, LEGEND
from meow_lightning.report.templating import render_template
from meow_lightning.report.verdict import verdict
from meow_lightning.tracking.disclosure import shareable
from meow_lightning.types import ROLES, Results

CARD = "model_card.md"
BEHIND = {"forget_quality_log10": "forget_quality"}  # numbers whose definitions refer to another one
TAGS = ("machine-unlearning", "unlearning", "meow-lightning")
UNKNOWN_LICENCE = "unknown: check the licence of the base model before sharing"
ELSEWHERE = (
    "The dataset is private: its texts, files and further settings are not part of this card, and the command is "
    "complete without them only for its owner."
)
DISCLAIMED = "A disclaimer applies to these numbers; their owner has it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """The licence of the model that an unlearned model derives from.

    Attributes:
        name: Its identifier on the hub, such as ``apache-2.0``; ``None`` if it is unknown or there is no such model.
        sentence: What the card says of it.
    """

    name: str | None
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """Everything that a card is made of.

    Attributes:
        options: The options of the run, as its report shows them.
        public: Whether the texts of the dataset are public.
        disclaimer: What its owner wrote above all numbers; empty for nothing.
        results: The metrics.
        intervals: Intervals over questions, low and high end, by role and metric.
        level: Their level, as in ``95 %``.
        licence: The licence of the base model.
        base: Hub id of the base model; ``None`` for another one.
        command: The command line that made it.
    """

    options: Mapping[str, Any]
    public: bool
    disclaimer: str
    results: Results
    intervals: Mapping[str, Mapping[str, Sequence[float]]]
    level: str
    licence: Licence
    base: str | None
    command: str


@dataclass(frozen=True, slots=True)
class CardRow:
    """One metric with a cell per role."""

    name: str
    label: str
    arrow: str
    cells: Sequence[str]


def model_card(data: CardData) -> str:
    """Write a card in Markdown below its metadata in YAML, as model hubs read it.

    Of a private dataset, it holds no text, no path and no option that is not on the list of ``tracking/disclosure.py``.
    """
    from huggingface_hub import ModelCardData

    options = data.options
    dataset, method, model = (options[group]["name"] for group in ("dataset", "method", "model"))
    judged, rows = verdict(data.results), list(_rows(data))
    names = {name for row in rows for name in (row.name, BEHIND.get(row.name))}
    metadata = ModelCardData(
        library_name="transformers", pipeline_tag="text-generation", tags=[*TAGS, method, dataset],
        base_model=data.base, license=data.licence.name,
    )  # fmt: skip
    body = render_template(
        CARD,
        title=f"{model}, unlearned with {method}",
        headline=judged.headline,
        made=f"method `{method}` on dataset `{dataset}`, model `{model}`, seed {options['seed']}",
        disclaimer=data.disclaimer if data.public else DISCLAIMED * bool(data.disclaimer),
        legend=LEGEND,
        level=data.level,
        rows=rows,
        definitions=[each for each in data.results.definitions if each.name in names],
        limits=judged.limits,
        command=data.command,
        elsewhere="" if data.public else ELSEWHERE,
        settings=[(name, _cell(value)) for name, value in _settings(data)],
        licence=data.licence.sentence,
    )
    return f"---\n{metadata.to_yaml().strip()}\n---\n{body}\n"


def _rows(data: CardData) -> Iterator[CardRow]:
    """Format the main metrics that any model has."""
    for name in CLOSING:
        if all(number(data.results, role, name) is None for role in ROLES):
            continue
        cells = [_number(data, role, name) for role in ("target", "unlearned", "retain")]
        yield CardRow(name, label(data.results, name), arrow(data.results, name), cells)


def _number(data: CardData, role: str, name: str) -> str:
    value = number(data.results, role, name)
    if value is None:
        return f"{DASH} not measured"
    ends = data.intervals.get(role, {}).get(name)
    spread = "" if ends is None else f"<br>{format_value(name, ends[0])} to {format_value(name, ends[1])}"
    return f"{format_value(name, value)}{spread}"


def _settings(data: CardData) -> list[tuple[str, Any]]:
    """List the settings: those that may be shared or, of a public dataset, all but paths."""
    if not data.public:
        return list(flatten(shareable(data.options)).items())
    return [(name, value) for name, value in flatten(dict(data.options)).items() if not is_path(value)]


def is_path(value: Any) -> bool:
    """Whether a setting is a path on this machine."""
    return isinstance(value, str) and (value.startswith(("/", "~", "./", "../")) or Path(value).exists())


def _cell(value: Any) -> str:
    """Format a setting as code in a cell of a table."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|").replace("\n", "\\n") if text.strip() else ""
