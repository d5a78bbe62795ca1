"""Numbers that an attack measures about a model itself, such as its size, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from meow_lightning.evaluation.subject import Subject
from meow_lightning.store.durable import write_json
from meow_lightning.store.jsonl import read_json
from meow_lightning.types import Definition, Results

FILE = "numbers.json"
GROUP = "model"


@dataclass(frozen=True, slots=True)
class AttackNumber:
    """One number of a model, before and after an attack on it.

    Attributes:
        definition: Its definition; the name is in the group ``model/``.
        before: Its value before the attack.
        after: Its value after it.
    """

    definition: Definition
    before: float
    after: float


def write_numbers(numbers: Sequence[AttackNumber], folder: Path) -> None:
    """Write the numbers of an attack into the folder of its stage."""
    write_json(folder / FILE, [asdict(each) for each in numbers])


def read_numbers(folder: Path) -> list[AttackNumber]:
    """Read what :func:`write_numbers` wrote."""
    stored = read_json(folder / FILE)
    return [AttackNumber(Definition(**each["definition"]), each["before"], each["after"]) for each in stored]


def is_about_model(name: str) -> bool:
    """Whether a number of a run is about a model itself."""
    return name.startswith(f"{GROUP}/")


def with_attack_numbers(results: Results, measured: Mapping[Subject, Iterable[AttackNumber]]) -> Results:
    """Add what attacks measured: the values before an attack to the models themselves, those after it to its subjects.

    Args:
        results: The numbers of a run, with those under attacks.
        measured: The numbers by attacked model; of several values before an attack the first counts.
    """
    values = {subject: dict(numbers) for subject, numbers in results.values.items()}
    definitions = {known.name: known for known in results.definitions}
    for subject, numbers in measured.items():
        for each in numbers:
            name = each.definition.name
            definitions.setdefault(name, each.definition)
            values[subject.role].setdefault(name, each.before)
            values[str(subject)][name] = each.after
    return replace(results, definitions=tuple(definitions.values()), values=values)
