"""The final numbers of a run as loggers name them: stable, readable, and with the better direction.

============================================ =========================================================================
name                                         number
============================================ =========================================================================
``forget_quality/log10_p``                   forget quality of the unlearned model
``forget/value_accuracy``                    a metric of the unlearned model on an evaluation set
``attack/relearn/value_accuracy``            the same on the forget set after the attack ``relearn``
``attack/relearn/retain/value_accuracy``     the same on another set
``attack/logit_lens/erasure``                what an attack that looks or asks found
``target_model/…``, ``retain_model/…``       the target and the retain model; after an attack
                                             ``attack/relearn/retain_model/…``
``cost/…``                                   seconds, operations and memory
============================================ =========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meow_lightning.evaluation import extraction, layers
from meow_lightning.evaluation.subject import Subject
from meow_lightning.report.sweep_cost import add_up
from meow_lightning.tracking.base import Number
from meow_lightning.types import Results

FORGET = "forget"
FORGET_QUALITY = {  # metrics of one test, in one group
    "forget_quality_log10": "forget_quality/log10_p",
    "forget_quality": "forget_quality/p",
    "forget_quality_distance": "forget_quality/ks_distance",
    "forget_quality_rows": "forget_quality/questions",
}
INSIDE = tuple(f"{group}/" for group in (layers.GROUP, extraction.GROUP))  # <group>/<attack>/<number>


def logged_name(subject: str, name: str) -> str:
    """Name a number for loggers.

    Args:
        subject: Text of a :class:`~meow_lightning.evaluation.subject.Subject`.
        name: Name of its :class:`~meow_lightning.types.Definition`.
    """
    parsed = Subject.parse(subject)
    attack, parts = parsed.condition, FORGET_QUALITY.get(name, name).split("/")
    if name.startswith(INSIDE) and not attack:
        attack, parts = parts[1], parts[2:]
    if attack:
        parts = [part for part in parts if part != FORGET]
    model = [] if parsed.role == "unlearned" else [f"{parsed.role}_model"]
    return "/".join([*(("attack", attack) if attack else ()), *model, *parts])


def logged_numbers(results: Results) -> list[Number]:
    """List all measured numbers of a run."""
    directions = {each.name: each.direction for each in results.definitions}
    return [
        Number(logged_name(subject, name), value, directions.get(name, "none"))
        for subject, numbers in results.values.items()
        for name, value in numbers.items()
    ]


def logged_costs(manifests: Sequence[Mapping[str, Any]], unlearned: Mapping[str, Any]) -> list[Number]:
    """List what a run cost, including results that other runs share with it.

    Args:
        manifests: The manifests of all its results.
        unlearned: That of the unlearned model.
    """
    training = {each["key"]: each for each in (*manifests, unlearned) if each["stage"] == "unlearn"}
    training.setdefault(unlearned["key"], unlearned)  # a retrained model is the result of another stage
    cost = add_up(list(training.values()))
    costs = {
        "all_stages_seconds": sum(each["seconds"] for each in manifests),
        "unlearning_seconds": cost.seconds,
        "unlearning_flops": cost.flops,
        "unlearning_peak_memory_mib": cost.memory_mib or 0.0,
    }
    return [Number(f"cost/{name}", float(value), "lower") for name, value in costs.items()]
