"""Nodes that run the tasks of lm-evaluation-harness on the models of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meow_lightning.config.schema import Ability
from meow_lightning.errors import invalid_option, nearest
from meow_lightning.evaluation.ability import (
    DATA,
    LocalQuestions,
    Unmeasured,
    check_definition,
    harness_version,
)
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """The ability tasks of a run.

    Attributes:
        results: The results, by role and task.
        unmeasured: Tasks that cannot run, because their questions are missing.
    """

    results: Mapping[tuple[Role, str], Artifact]
    unmeasured: tuple[Unmeasured, ...]


def abilities(ctx: BuildContext, models: Mapping[Role, Artifact], condition: str = "") -> Abilities:
    """Run every task of ``ability.tasks`` on some models of the run.

    Args:
        ctx: The run.
        models: The models, by role.
        condition: Name of the attack on them; empty for none.

    Raises:
        UserError: lm-evaluation-harness is not installed, or the definition of a task is invalid.
    """
    ability = ctx.config.ability
    if not ability.tasks:
        return Abilities(results={}, unmeasured=())
    harness = harness_version()
    results: dict[tuple[Role, str], Artifact] = {}
    unmeasured = []
    for task in dict.fromkeys(ability.tasks):
        settings: dict[str, Any] = {
            "task": task, "lm_eval": harness, "num_fewshot": ability.num_fewshot, "limit": ability.limit,
            "model": ctx.inference_settings,
        }  # fmt: skip
        inputs: dict[str, Any] = {}
        if task in ability.local:
            config, local = _local(ability, task)
            if (reason := local.missing_reason()) is not None:
                metrics = tuple(each["metric"] for each in config.get("metric_list", ()))
                unmeasured.append(Unmeasured(task=task, metrics=metrics, reason=reason))
                continue
            split = config.get("test_split") or config.get("validation_split")
            questions, characters = local.amount(str(split))
            settings |= {"config": config, DATA: local.digests()}
            inputs = {"files": local.files, "folder": local.folder, "amount": [questions, characters]}
        for role, model in models.items():
            label = f"{Subject(role, condition)} {task}"
            results[role, task] = ctx.artifact("ability", label, settings, {"model": model}, **inputs)
    return Abilities(results=results, unmeasured=tuple(unmeasured))


def _local(ability: Ability, task: str) -> tuple[dict[str, Any], LocalQuestions]:
    """Split the definition of a task into the harness's keys and its local questions."""
    definition = ability.local[task]
    check_definition(task, definition)
    config = {key: value for key, value in definition.items() if key != DATA}
    files: Mapping[str, Mapping[str, str]] = definition[DATA]
    for key in ("validation_split", "test_split", "fewshot_split", "training_split"):
        if config.get(key) is not None and config[key] not in files:
            raise invalid_option(
                f"ability.local.{task}.{key}", config[key], f"a split of its {DATA} ({', '.join(files)})",
                did_you_mean=nearest(config[key], files),
            )  # fmt: skip
    return config, LocalQuestions(task=task, files=files, folder=ability.folder)
