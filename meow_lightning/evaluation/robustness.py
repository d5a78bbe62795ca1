"""Numbers under attacks: the metrics of the attacked models beside the others, and what an attack brings back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from meow_lightning.evaluation.extension import extended
from meow_lightning.evaluation.subject import Subject
from meow_lightning.types import ROLES, Definition, Direction, Results

RECOVERED = (
    "forget/value_accuracy", "forget/rouge_l_recall", "memo/answers", "forget/extraction_strength",
    "forget/choice_accuracy",
)  # fmt: skip
"""The numbers whose change under an attack is measured."""
VERSION = 1  # of these numbers; raised when the same metrics give other ones
SMALLEST = 0.05  # a ratio of smaller numbers or changes says nothing: on 64 questions one answer is 0.016


def with_conditions(by_condition: Mapping[str, Results], labels: Mapping[str, str]) -> Results:
    """Join the numbers of the models themselves and those after every attack.

    Args:
        by_condition: The numbers by the name of the attack; an empty name for the models themselves.
        labels: Description of every attack, by name.
    """
    results = by_condition[""]
    values, missing = dict(results.values), dict(results.missing)
    definitions = {known.name: known for each in by_condition.values() for known in each.definitions}
    for condition in labels:
        attacked = by_condition[condition]
        for role in ROLES:
            subject = str(Subject(role, condition))
            values[subject], missing[subject] = attacked.values[role], attacked.missing.get(role, {})
    joined = replace(
        results, definitions=tuple(definitions.values()), values=values, missing=missing, conditions=dict(labels)
    )  # fmt: skip
    return _with_changes(joined) if labels else results


def robustness(unlearned: float, retain: float) -> float:
    """Compare how far an attack moves the unlearned model and a model that never saw the facts.

        R = 1 - |du - dr| / (|du| + |dr|)

    1 if it moves both alike, 0 if it moves only one of them or both in opposite directions.

    Args:
        unlearned: Change du of a metric of the unlearned model.
        retain: Change dr of the retain model's.
    """
    moved = abs(unlearned) + abs(retain)
    return 1.0 if moved == 0 else 1 - abs(unlearned - retain) / moved


def stability(before: float, after: float) -> float:
    """Compute Q = 1 - |after - before| / (|after| + |before|): 1 if a metric stays, 0 if it comes from or goes to 0.

    Args:
        before: The metric before an attack.
        after: The metric after it.
    """
    size = abs(before) + abs(after)
    return 1.0 if size == 0 else 1 - abs(after - before) / size


def recovered(target: float, before: float, after: float) -> float | None:
    """Compute (after - before) / (target - before); ``None`` if target - before is below :data:`SMALLEST`.

    0: nothing of what unlearning removed returns; 1: as much as the target model has.

    Args:
        target: A number of the target model.
        before: The same of the unlearned model before an attack.
        after: The same after it.
    """
    return None if target - before < SMALLEST else (after - before) / (target - before)


def change_name(kind: str, name: str) -> str:
    """Name a number about the change of a metric.

    Args:
        kind: ``recovered``, ``robustness`` or ``stability``.
        name: Name of the metric.
    """
    return f"{kind}/{name}"


def _with_changes(results: Results) -> Results:
    names = [name for name in RECOVERED if any(each.name == name for each in results.definitions)]
    outcomes = {
        str(Subject("unlearned", condition)): {
            change_name(kind, name): value
            for name in names for kind, value in _changes(results, condition, name).items()
        }
        for condition in results.conditions
    }  # fmt: skip
    return extended(results, (known for name in names for known in _definitions(results, name)), outcomes)


def _changes(results: Results, condition: str, name: str) -> dict[str, float | str]:
    """Compute the numbers about the change of one metric, or the reason why each is missing."""

    def numbers(*subjects: Subject) -> list[float] | str:
        found = []
        for subject in subjects:
            value = results.values.get(str(subject), {}).get(name)
            if value is None:
                default = f"not measured: {name} of the {subject.role} model is missing"
                return results.missing.get(str(subject), {}).get(name, default)
            found.append(value)
        return found

    before, after = Subject("unlearned"), Subject("unlearned", condition)
    target, own, pairs = (
        numbers(Subject("target"), before, after),
        numbers(before, after),
        numbers(before, after, Subject("retain"), Subject("retain", condition)),
    )
    return {
        "recovered": target if isinstance(target, str) else _recovered(*target),
        "robustness": pairs if isinstance(pairs, str) else _robustness(pairs[1] - pairs[0], pairs[3] - pairs[2]),
        "stability": own if isinstance(own, str) else _stability(*own),
    }


def _robustness(unlearned: float, retain: float) -> float | str:
    if abs(unlearned) + abs(retain) < SMALLEST:
        return "not measured: the attack moved this number of neither model, so there is nothing to compare"
    return robustness(unlearned, retain)


def _stability(before: float, after: float) -> float | str:
    if abs(before) + abs(after) < SMALLEST:
        return "not measured: this number is about 0 before and after the attack"
    return stability(before, after)


def _recovered(target: float, before: float, after: float) -> float | str:
    reason = "not measured: unlearning did not lower this number, so there is nothing to bring back"
    return reason if (share := recovered(target, before, after)) is None else share


def _definitions(results: Results, name: str) -> Sequence[Definition]:
    known = next(each for each in results.definitions if each.name == name)
    texts: dict[str, tuple[Direction, str]] = {
        "recovered": ("lower", "Share of what unlearning removed that the attack brings back: (after - before) / "
                      "(target - before) for the unlearned model before and after the attack. 0: nothing returns; 1: "
                      "as much as the target model had."),
        "robustness": ("higher", "R = 1 - |du - dr| / (|du| + |dr|) for the changes du and dr that the attack causes "
                       "in the unlearned and the retain model. 1: both move alike, so the unlearned model holds no "
                       "more than one that never saw the facts; 0: only one of them moves."),
        "stability": ("none", "Q = 1 - |after - before| / (|after| + |before|) for the unlearned model before and "
                      "after the attack."),
    }  # fmt: skip
    return [
        Definition(
            name=change_name(kind, name), id=f"{kind}.{VERSION}.{known.id}", unit="share",
            direction=direction, text=text, label=f"{known.label}, {kind}", order=known.order, main=False,
        )
        for kind, (direction, text) in texts.items()
    ]  # fmt: skip
