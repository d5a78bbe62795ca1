"""Nodes that attack the models of a run, and the predictions and scores of the attacked models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from meow_lightning.attacks.base import BaseAttack
from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.training_options import Learning
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


def attacked_models(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[Subject, Artifact]:
    """Attack every model with every attack of ``attacks``.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid.
    """
    attacked: dict[Subject, Artifact] = {}
    for condition, config in ctx.config.attacks.items():
        settings, trains = _settings(ctx, condition, config)
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


def _settings(ctx: BuildContext, condition: str, config: AttackConfig) -> tuple[dict[str, Any], bool]:
    """Build the settings of the stage of an attack.

    Returns:
        The settings, and whether the attack trains.
    """
    option = f"attacks.{condition}"
    if not CONDITION.fullmatch(condition):
        raise invalid_option("attacks", condition, "a name of letters, digits and _")
    try:
        attack = config.instantiate(allow=ctx.config.trusted_packages)
    except UserError as error:  # an attack names its options without knowing its own name in the run
        raise UserError(re.sub(r"^attacks\.", f"{option}.", str(error))) from error
    if not isinstance(attack, BaseAttack):
        raise invalid_option(f"{option}._target_", config.target, "a subclass of BaseAttack (attacks/base.py)")
    settings: dict[str, Any] = {"attack": config.keyed}
    if not attack.trains:
        return {**settings, "model": ctx.inference_settings}, False
    recipe = config.recipe(option, ctx.config.model.name)
    if absent := [name for name in Learning.model_fields if name not in recipe]:
        raise UserError(f"{option}.{absent[0]} is required: an attack that trains needs a recipe")
    rows = attack.rows(ctx.dataset, ctx.seed)
    if not rows:
        raise UserError(f"{option} trains on facts, but dataset={ctx.dataset.name} has none of that kind; leave it out")
    settings |= {"recipe": recipe, "rows": digest_of(rows, TRAINED_FIELDS), "seed": ctx.seed}
    return {**settings, "model": ctx.training_settings}, True
