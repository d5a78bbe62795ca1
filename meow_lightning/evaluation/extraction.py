"""Metrics of extraction attacks: means over the facts to forget, and the excess over the retain model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from meow_lightning.attacks.extraction import Attempts, ExtractionAttack, FactNumber
from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.metric import Outcome, mean_of
from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
from meow_lightning.evaluation.suite.bootstrap import Bootstrap, HeadlineSamples, unanimous_rows
from meow_lightning.types import ROLES, Definition, Results, Role

VERSION = 2  # of the means and excesses; raised when the same attempts give other numbers
GROUP = "extraction"
ORDER = 58  # in tables: after the abilities
EXCESS = "_excess"
RETAIN: Role = "retain"
Values = list[float | None]
ExtractionValues = Mapping[Role, Mapping[str, tuple[str, Values]]]
"""The values of every number by role and name, each with the name of its evaluation set."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What one attack found.

    Attributes:
        name: Name of the attack in the run.
        label: How tables name it.
        attack: The attack.
        rows: The attempts on every fact that counts, by role and in the same order.
        set: Name of the evaluation set.
        proposed: Whether a language model proposed the prompts.
    """

    name: str
    label: str
    attack: ExtractionAttack
    rows: Mapping[Role, Sequence[Attempts]]
    set: str
    proposed: bool = False

    @property
    def numbers(self) -> tuple[FactNumber, ...]:
        """The numbers of the attack."""
        return self.attack.numbers() + (self.attack.proposal_numbers() if self.proposed else ())

    def values(self, role: Role) -> dict[str, Values]:
        """Compute the values of every number, by its name in the results and in the order of the facts.

        The excess of a number is the difference, fact by fact, from the retain model under the same attack; the retain
        model itself has none.

        Args:
            role: Role of a model with attempts.
        """
        own = self._own(role)
        if role != RETAIN and RETAIN in self.rows:
            floor = self._own(RETAIN)
            own |= {
                excess_name(name): [
                    None if one is None or other is None else one - other
                    for one, other in zip(own[name], floor[name], strict=True)
                ]
                for name in (self.number(each) for each in self.numbers if each.excess)
            }
        return own

    def number(self, defined: FactNumber) -> str:
        """Name a number in the results of a run, such as ``extraction/sample/value_leak_at_16``."""
        return f"{GROUP}/{self.name}/{defined.name}"

    def definitions(self) -> Iterator[Definition]:
        """Define the numbers and their excesses."""
        for each in self.numbers:
            name, version = self.number(each), f"{VERSION}.{self.attack.version}.{type(self.attack).__name__}"
            known = Definition(
                name=name, id=f"{GROUP}.{version}.{each.name}", unit=each.unit,
                direction=each.direction, text=f"{each.text} Asked as the attack {self.name!r} asks.",
                label=f"{self.label}: {each.label}", order=ORDER, main=each.main,
            )  # fmt: skip
            yield known
            if each.excess:
                yield replace(
                    known, name=excess_name(name), id=f"{known.id}{EXCESS}", label=f"{known.label}, excess",
                    text=f"Mean difference from the retain model under the same attack, fact by fact. {each.text}",
                )  # fmt: skip

    def _own(self, role: Role) -> dict[str, Values]:
        found = [self.attack.values(each, rouge_l_recall) for each in self.rows[role]]
        return {self.number(each): [values[each.name] for values in found] for each in self.numbers}


def excess_name(name: str) -> str:
    """Return the name of a number's excess over the retain model."""
    return name + EXCESS


def is_extraction(name: str) -> bool:
    """Whether a number of a run was found by an attack that asks the model."""
    return name.startswith(f"{GROUP}/")


def extraction_values(extractions: Sequence[Extraction]) -> ExtractionValues:
    """Compute the values of all numbers."""
    found: dict[Role, dict[str, tuple[str, Values]]] = {}
    for each in extractions:
        for role in each.rows:
            found.setdefault(role, {}).update(
                {name: (each.set, values) for name, values in each.values(role).items()}
            )  # fmt: skip
    return found


def with_extraction(
    results: Results, extractions: Sequence[Extraction], values: ExtractionValues, *,
    absent: Mapping[str, str],
) -> Results:  # fmt: skip
    """Add the numbers of the attacks to the numbers of a run.

    Args:
        results: The other numbers; every role is in its ``values``.
        extractions: What the attacks found.
        values: Result of :func:`extraction_values`.
        absent: Why a role has no model, by role.
    """
    definitions = [known for each in extractions for known in each.definitions()]
    if not definitions:
        return results
    outcomes: dict[str, dict[str, Outcome]] = {}
    for role in ROLES:
        found = outcomes[role] = {}
        for known in definitions:
            own = values.get(role, {}).get(known.name)
            found[known.name] = _why_missing(role, known.name, absent) if own is None else mean_of(own[1])
    return extended(results, definitions, outcomes)


def extraction_samples(
    values: ExtractionValues, extractions: Sequence[Extraction], *, bootstrap: Bootstrap
) -> dict[str, HeadlineSamples]:
    """Draw bootstrap samples of the numbers over the facts, by role.

    Args:
        values: Result of :func:`extraction_values`.
        extractions: What the attacks found.
        bootstrap: The samples of every set's questions.
    """
    shares = {each.number(known) for each in extractions for known in each.numbers if known.unit == "share"}
    samples: dict[str, HeadlineSamples] = {}
    for role, named in values.items():
        drawn = {name: bootstrap.means(part, each) for name, (part, each) in named.items() if _counted(each)}
        unanimous = {name: rows for name in shares & drawn.keys() if (rows := unanimous_rows(named[name][1]))}
        samples[role] = HeadlineSamples({name: each for name, each in drawn.items() if each is not None}, unanimous)
    return samples


def _counted(values: Values) -> bool:
    return any(value is not None for value in values)


def _why_missing(role: Role, name: str, absent: Mapping[str, str]) -> str:
    if role in absent:
        return f"not measured: {absent[role]}"
    if name.endswith(EXCESS) and role == RETAIN:
        return "not measured: the excess is measured over this model"
    if name.endswith(EXCESS) and RETAIN in absent:
        return f"not measured: {absent[RETAIN]}"
    return f"not measured: this run has no {role} model to ask"
