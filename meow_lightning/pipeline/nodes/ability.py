"""Nodes that run ability tasks on the models of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meow_lightning.config.packages import package_versions
from meow_lightning.errors import invalid_option, nearest
from meow_lightning.evaluation.ability import DATA, Unmeasured, check_data, check_definition, harness_version
from meow_lightning.evaluation.ability_task import PLAIN_PROMPT, RUN_TARGET, TARGET, own_task
from meow_lightning.evaluation.local_questions import LocalQuestions
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import provided_model
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """The part of an ability task that is the same for every model: settings, other needs, and runtime inputs."""

    settings: Mapping[str, Any]
    needs: Mapping[str, Artifact] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)


def abilities(
    ctx: BuildContext, models: Mapping[Role, Artifact], *, target: Artifact, condition: str = ""
) -> Abilities:  # fmt: skip
    """Run every task of ``ability.tasks`` on some models of the run.

    Args:
        ctx: The run.
        models: The models, by role.
        target: The target model itself, from which a task may take features.
        condition: Name of the attack on the models; empty for none.

    Raises:
        UserError: A package is not installed, or the definition of a task is invalid.
    """
    results: dict[tuple[Role, str], Artifact] = {}
    unmeasured = []
    for name in dict.fromkeys(ctx.config.ability.tasks):
        definition = ctx.config.ability.local.get(name)
        own = isinstance(definition, Mapping) and TARGET in definition
        task = _own_task(ctx, name, definition or {}, target) if own else _harness_task(ctx, name)
        if isinstance(task, Unmeasured):
            unmeasured.append(task)
            continue
        settings = {"task": name, "limit": ctx.config.ability.limit, "model": ctx.inference_settings, **task.settings}
        for role, model in models.items():
            label = f"{Subject(role, condition)} {name}"
            needs = {"model": model, **task.needs}
            results[role, name] = ctx.artifact("ability", label, settings, needs, **task.inputs)
    return Abilities(results=results, unmeasured=tuple(unmeasured))


def _harness_task(ctx: BuildContext, name: str) -> _Task | Unmeasured:
    """Describe a task of lm-evaluation-harness, whose questions are local or its own."""
    ability = ctx.config.ability
    settings = {"lm_eval": harness_version(), "num_fewshot": ability.num_fewshot}
    if name not in ability.local:
        return _Task(settings=settings)
    config, local = _local(ability.local[name], name, ability.folder)
    if (reason := local.missing_reason()) is not None:
        metrics = tuple(each["metric"] for each in config.get("metric_list", ()))
        return Unmeasured(task=name, metrics=metrics, reason=reason)
    split = config.get("test_split") or config.get("validation_split")
    return _Task(
        settings={**settings, "config": config, DATA: local.digests()},
        inputs={"files": local.files, "folder": local.folder, "amount": [*local.amount(str(split))]},
    )  # fmt: skip


def _own_task(ctx: BuildContext, name: str, definition: Mapping[str, Any], target: Artifact) -> _Task | Unmeasured:
    """Describe a task of our own, with the model that it takes features from."""
    option, allow = f"ability.local.{name}", ctx.inputs["allow"]
    config = {key: value for key, value in definition.items() if key != DATA}
    task = own_task(option, config, allow=allow)
    check_data(option, definition)
    local = LocalQuestions(task=name, files=definition[DATA], folder=ctx.config.ability.folder)
    if (reason := local.missing_reason()) is not None:
        return Unmeasured(task=name, metrics=task.metrics, reason=reason, lower=task.lower, own=True)
    needs, features = {}, task.features
    if features == RUN_TARGET:
        needs = {"features": target}
    elif features is not None:
        provided = ctx.roles.other(f"{option}.features", features, words=(RUN_TARGET, "null"))
        needs = {"features": provided_model(ctx, "features", provided, PLAIN_PROMPT)}
        config["features"] = Path(features).name  # the model itself is among the needs
    packages = package_versions(task.packages, option=option, extra="nlg", instead="ability=none")
    return _Task(
        settings={"config": config, DATA: local.digests(), "packages": packages}, needs=needs,
        inputs={"files": local.files, "folder": local.folder, "amount": [task.amount(local), 0]},
    )  # fmt: skip


def _local(definition: Any, name: str, folder: str | None) -> tuple[dict[str, Any], LocalQuestions]:
    """Split the definition of a task into the harness's keys and its local questions."""
    check_definition(name, definition)
    config = {key: value for key, value in definition.items() if key != DATA}
    files: Mapping[str, Mapping[str, str]] = definition[DATA]
    for key in ("validation_split", "test_split", "fewshot_split", "training_split"):
        if config.get(key) is not None and config[key] not in files:
            raise invalid_option(
                f"ability.local.{name}.{key}", config[key], f"a split of its {DATA} ({', '.join(files)})",
                did_you_mean=nearest(config[key], files),
            )  # fmt: skip
    return config, LocalQuestions(task=name, files=files, folder=folder)
