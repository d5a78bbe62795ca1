"""Nodes that attack the models of a run, and the predictions and scores of the attacked models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meow_lightning.attacks.base import BaseAttack, ModelAttack, PromptAttack
from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.training_options import Learning
from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.ability import abilities
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.predict import OWN_PROTOCOL, predict
from meow_lightning.pipeline.nodes.score import score_answers
from meow_lightning.stages.common.needs import EvaluationInputs, RunModels
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Role

CONDITION = re.compile(r"\w+")


def attacked_models(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[Subject, Artifact]:
    """Attack every model with every attack of ``attacks`` that transforms models.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid.
    """
    attacked: dict[Subject, Artifact] = {}
    for condition, config in ctx.config.attacks.items():
        attack = _attack(ctx, condition, config)
        if not isinstance(attack, ModelAttack):
            continue
        settings = _settings(ctx, condition, config, attack)
        for role, model in models.items():
            subject = Subject(role, condition)
            attacked[subject] = ctx.artifact("attack", str(subject), settings, {"model": model}, trains=attack.trains)
    return attacked


def evaluate_attacked(ctx: BuildContext, models: RunModels[Artifact], condition: str) -> EvaluationInputs[Artifact]:
    """Predict, score and run ability tasks with the models under one attack, as with the models themselves.

    Ability tasks have prompts of their own, which an attack on prompts does not reach: they are not run under it.

    Args:
        ctx: The run.
        models: The models.
        condition: Name of the attack.
    """
    config = ctx.config.attacks[condition]
    attack = _attack(ctx, condition, config)
    ability: Mapping[tuple[Role, str], Artifact] = {}
    if isinstance(attack, PromptAttack):
        attacked = models.by_role
        ctx = replace(ctx, prompt_attack=_prompt_settings(ctx, condition, config, attack))
    else:
        attacked = models.after(condition)
        ability = abilities(ctx, attacked, target=models.target, condition=condition).results
    return EvaluationInputs(
        predictions={role: predict(ctx, str(Subject(role, condition)), model) for role, model in attacked.items()},
        scores={
            (role, "answers"): score_answers(ctx, f"{Subject(role, condition)} answers", model)
            for role, model in attacked.items()
        },
        abilities=ability,
    )


def _attack(ctx: BuildContext, condition: str, config: AttackConfig) -> BaseAttack:
    """Build an attack, checking its name and its class."""
    option = f"attacks.{condition}"
    if not CONDITION.fullmatch(condition):
        raise invalid_option("attacks", condition, "a name of letters, digits and _")
    try:
        attack = config.instantiate(allow=ctx.config.trusted_packages)
    except UserError as error:  # an attack names its options without knowing its own name in the run
        raise UserError(re.sub(r"^attacks\.", f"{option}.", str(error))) from error
    if not isinstance(attack, (ModelAttack, PromptAttack)):
        expected = "a subclass of ModelAttack or PromptAttack (attacks/base.py)"
        raise invalid_option(f"{option}._target_", config.target, expected)
    return attack


def _settings(ctx: BuildContext, condition: str, config: AttackConfig, attack: ModelAttack) -> dict[str, Any]:
    """Build the settings of the stage of an attack on models."""
    option = f"attacks.{condition}"
    settings: dict[str, Any] = {"attack": config.keyed}
    if not attack.trains:
        return {**settings, "model": ctx.inference_settings}
    recipe = config.recipe(option, ctx.config.model.name)
    if absent := [name for name in Learning.model_fields if name not in recipe]:
        raise UserError(f"{option}.{absent[0]} is required: an attack that trains needs a recipe")
    rows = attack.rows(ctx.dataset, ctx.seed)
    if not rows:
        raise UserError(f"{option} trains on facts, but dataset={ctx.dataset.name} has none of that kind; leave it out")
    settings |= {"recipe": recipe, "rows": digest_of(rows, TRAINED_FIELDS), "seed": ctx.seed}
    return {**settings, "model": ctx.training_settings}


def _prompt_settings(ctx: BuildContext, condition: str, config: AttackConfig, attack: PromptAttack) -> dict[str, Any]:
    """Build the settings of an attack on prompts, which the stages that run a model share."""
    if ctx.protocol != OWN_PROTOCOL:
        raise UserError(
            f"attacks.{condition} transforms prompts, but evaluation.protocol={ctx.protocol} has prompts of its own; "
            f"leave the attack out or set evaluation.protocol={OWN_PROTOCOL}"
        )
    rows = digest_of(attack.rows(ctx.dataset, ctx.seed), TRAINED_FIELDS)
    return {"attack": config.keyed, "version": attack.version, "rows": rows, "seed": ctx.seed}
