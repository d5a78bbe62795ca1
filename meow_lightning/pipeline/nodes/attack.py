"""Nodes that attack the models of a run, and the predictions and scores of the attacked models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meow_lightning.attacks.base import BaseAttack
from meow_lightning.config.instantiate import component_config, instantiate
from meow_lightning.config.recipes import value_for_model
from meow_lightning.config.schema import Learning
from meow_lightning.config.validation import check_call, check_types
from meow_lightning.data.encoding import digest_of
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.ability import abilities
from meow_lightning.pipeline.nodes.context import TRAINED_FIELDS, BuildContext
from meow_lightning.pipeline.nodes.predict import predict
from meow_lightning.pipeline.nodes.score import score_answers
from meow_lightning.stages.common.needs import EvaluationInputs, RunModels
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Role

CONDITION = re.compile(r"\w+")
LEARNING = tuple(Learning.__required_keys__)


def attacked_models(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[Subject, Artifact]:
    """Attack every model with every attack of ``attacks``.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid.
    """
    attacked: dict[Subject, Artifact] = {}
    for condition, node in ctx.options["attacks"].items():
        settings, trains = _settings(ctx, condition, node)
        for role, model in models.items():
            subject = Subject(role, condition)
            attacked[subject] = ctx.artifact("attack", str(subject), settings, {"model": model}, trains=trains)
    return attacked


def evaluate_attacked(ctx: BuildContext, models: RunModels[Artifact], condition: str) -> EvaluationInputs[Artifact]:
    """Predict, score and run ability tasks with the models after one attack, as with the models themselves.

    Args:
        ctx: The run.
        models: The models.
        condition: Name of the attack.
    """
    attacked = models.after(condition)
    return EvaluationInputs(
        predictions={role: predict(ctx, str(Subject(role, condition)), model) for role, model in attacked.items()},
        scores={
            (role, "answers"): score_answers(ctx, f"{Subject(role, condition)} answers", model)
            for role, model in attacked.items()
        },
        abilities=abilities(ctx, attacked, condition).results,
    )


def _settings(ctx: BuildContext, condition: str, node: Any) -> tuple[dict[str, Any], bool]:
    """Check the configuration of an attack, and build the settings of its stage.

    Returns:
        The settings, and whether the attack trains.
    """
    option, allow = f"attacks.{condition}", ctx.inputs["allow"]
    if not CONDITION.fullmatch(condition):
        raise invalid_option("attacks", condition, "a name of letters, digits and _")
    if not isinstance(node, Mapping) or not isinstance(node.get("label"), str):
        raise UserError(f"{option}.label is missing: a few words such as `after relearning`, for tables and pictures")
    arguments = {key: value for key, value in node.items() if key not in ("label", *LEARNING)}
    attack = check_call(option, arguments, allow=allow)
    if not (isinstance(attack, type) and issubclass(attack, BaseAttack)):
        raise invalid_option(f"{option}._target_", node["_target_"], "a subclass of BaseAttack (attacks/base.py)")
    try:
        made: BaseAttack = instantiate(arguments, allow=allow)
    except UserError as error:  # an attack names its options without knowing its own name in the run
        raise UserError(re.sub(r"^attacks\.", f"{option}.", str(error))) from error
    settings: dict[str, Any] = {"attack": component_config(arguments)}
    if not attack.trains:
        return {**settings, "model": ctx.inference_settings}, False
    recipe = {
        key: value_for_model(value, f"{option}.{key}", ctx.options["model"]["name"])
        for key, value in node.items()
        if key in LEARNING
    }
    check_types(option, recipe, Learning)
    rows = made.rows(ctx.dataset, ctx.seed)
    if not rows:
        raise UserError(f"{option} trains on facts, but dataset={ctx.dataset.name} has none of that kind; leave it out")
    settings |= {"recipe": recipe, "rows": digest_of(rows, TRAINED_FIELDS), "seed": ctx.seed}
    return {**settings, "model": ctx.training_settings}, True
