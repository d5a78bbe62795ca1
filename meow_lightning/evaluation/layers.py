"""Metrics of attacks on hidden states, with bootstrap intervals."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from meow_lightning.attacks.base import LayerAttack, LayerNumber
from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.metric import coverage_names
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, HeadlineSamples, unanimous_rows
from meow_lightning.types import ROLES, Definition, Results, Role

GROUP = "layers"
ORDER = 56  # in tables: after model utility and general ability
SET = "forget"  # whose questions are read


@dataclass(frozen=True, slots=True)
class LayerRow:
    """What an attack read of one question.

    Attributes:
        fact: ``Fact.id``.
        value: The text of the scored tokens; empty if the question marks no value that occurs in its answer.
        layers: One number per decoder layer, bottom first; empty likewise.
    """

    fact: str
    value: str
    layers: list[float]


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What one attack read of all models.

    Attributes:
        name: Name of the attack in the run.
        label: How tables and pictures name it.
        attack: The attack.
        rows: The questions by model; those that are left out of all metrics are not in it.
    """

    name: str
    label: str
    attack: LayerAttack
    rows: Mapping[Role, Sequence[LayerRow]]

    @property
    def roles(self) -> list[Role]:
        """The models that have numbers: those that were read, and the target model that others were put into."""
        return [role for role in ROLES if role in self.rows or (role == "target" and self.attack.patches)]

    @cached_property
    def values(self) -> dict[Role, dict[str, list[float | None]]]:
        """The numbers by model and name, each with a value per question; ``None``: it does not count."""
        return {role: self._values(role) for role in self.roles}

    def _values(self, role: Role) -> dict[str, list[float | None]]:
        found: dict[str, list[float | None]] = {}
        count = max(map(len, self.rows.values()), default=0)
        for position in range(count):
            layers = {each: rows[position].layers for each, rows in self.rows.items() if rows[position].layers}
            numbers = self.attack.values(role, layers) if layers else {}
            for number in self.attack.numbers:
                found.setdefault(number.name, []).append(numbers.get(number.name))
        return found


def layer_means(rows: Sequence[LayerRow]) -> list[float]:
    """Average every layer over the questions with a value; empty without one.

    Args:
        rows: What an attack read of one model.
    """
    return [statistics.fmean(layer) for layer in zip(*(row.layers for row in rows if row.layers), strict=True)]


def with_layers(results: Results, readings: Sequence[Readings], *, absent: Mapping[str, str]) -> Results:
    """Add the numbers of attacks on hidden states to those of the models themselves.

    Args:
        results: The other numbers; every role is in its ``values``.
        readings: What each attack read.
        absent: Why a model was not read, by role, if known.
    """
    outcomes: dict[str, dict[str, float | str]] = {}
    for role in ROLES if readings else ():
        found = outcomes[role] = {}
        for reading, number in _numbers(readings):
            outcome = _mean(reading, number, role, absent)
            names = (number_name(reading, number), *coverage_names(number_name(reading, number)))
            if isinstance(outcome, str):
                found |= dict.fromkeys(names, outcome)
            else:
                found |= dict(zip(names, outcome, strict=True))
    return extended(results, (known for each in readings for known in _definitions(each)), outcomes)


def layer_samples(readings: Sequence[Readings], *, bootstrap: Bootstrap) -> dict[Role, HeadlineSamples]:
    """Draw bootstrap samples of the numbers over the questions, by model; empty without readings.

    Args:
        readings: What each attack read.
        bootstrap: The samples of every set's questions.
    """
    found: dict[Role, HeadlineSamples] = {}
    for role in ROLES if readings else ():
        samples = HeadlineSamples({}, {})
        for reading, number in _numbers(readings):
            values = reading.values[role][number.name] if role in reading.roles else []
            drawn = bootstrap.means(SET, values) if any(value is not None for value in values) else None
            if drawn is not None and np.isfinite(drawn).any():  # a sample may hold no question that counts
                name = number_name(reading, number)
                samples.drawn[name] = drawn
                if number.unit == "share" and (rows := unanimous_rows(values)):
                    samples.unanimous[name] = rows
        found[role] = samples
    return found


def number_name(reading: Readings, number: LayerNumber) -> str:
    """Return the name of a number in the results of a run, such as ``layers/logit_lens/erasure``."""
    return f"{GROUP}/{reading.name}/{number.name}"


def is_layer_number(name: str) -> bool:
    """Whether a number of a run comes from an attack on hidden states."""
    return name.startswith(f"{GROUP}/")


def _numbers(readings: Sequence[Readings]) -> Iterator[tuple[Readings, LayerNumber]]:
    return ((reading, number) for reading in readings for number in reading.attack.numbers)


def _mean(
    reading: Readings, number: LayerNumber, role: Role, absent: Mapping[str, str]
) -> tuple[float, float, float] | str:
    """Average a number over the questions that count, with their number and that of all; else the reason."""
    if role not in reading.roles:
        return f"not measured: {absent.get(role, f'this run has no {role} model whose layers can be read')}"
    if not any(row.layers for rows in reading.rows.values() for row in rows):
        return "not measured: no question of the forget set marks a value that occurs in its answer"
    values = reading.values[role][number.name]
    if counted := [value for value in values if value is not None]:
        return statistics.fmean(counted), float(len(counted)), float(len(values))
    lacking = next((each for each in ("target", "retain") if each not in reading.roles), None)
    if lacking is not None:
        return f"not measured: {absent.get(lacking, f'this run has no {lacking} model')}"
    return f"not measured: no question of the forget set {number.uncounted}"


def _definitions(reading: Readings) -> list[Definition]:
    found = []
    for place, number in enumerate(reading.attack.numbers):
        name, order = number_name(reading, number), ORDER + place
        found.append(
            Definition(
                name=name, id=number.id, unit=number.unit, direction=number.direction, text=number.text,
                label=number.label,
                order=order, main=True,
            )
        )  # fmt: skip
        counts = ("that count for it", "Number of questions that count for it."), ("in all", "Number of questions.")
        found += [
            Definition(
                name=each, id="layer_coverage.1", unit="count", direction="none", text=text, order=order, main=False,
                label=f"{number.label}, questions {which}",
            )
            for each, (which, text) in zip(coverage_names(name), counts, strict=True)
        ]  # fmt: skip
    return found
