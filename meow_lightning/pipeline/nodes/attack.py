"""Nodes that attack the models of a run, and the predictions and scores of the attacked models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from meow_lightning.attacks.base import ModelAttack, PromptAttack
from meow_lightning.attacks.extraction import ExtractionAttack
from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.training_options import Learning
from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.nodes.ability import abilities
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.predict import OWN_PROTOCOL, predict
from meow_lightning.pipeline.nodes.proposer import proposer
from meow_lightning.pipeline.nodes.run_attack import RunAttack
from meow_lightning.pipeline.nodes.score import score_answers
from meow_lightning.pipeline.nodes.translator import translations
from meow_lightning.stages.common.needs import EvaluationInputs, RunModels
from meow_lightning.stages.common.prompts import TRANSLATIONS, WRITTEN
from meow_lightning.stages.common.proposer import PROPOSER
from meow_lightning.stages.common.stored_method import has_own_inference
from meow_lightning.stages.extract import ASKED_FIELDS
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Role


def attacked_models(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[Subject, Artifact]:
    """Attack every model with every attack of ``attacks`` that transforms models.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid.
    """
    attacked: dict[Subject, Artifact] = {}
    for condition, each in ctx.attacks.items():
        attack = each.attack
        if not isinstance(attack, ModelAttack):
            continue
        settings, unreached = attack_settings(ctx, each), irreplaceable(ctx, each)
        for role, model in models.items():
            if role not in unreached:
                subject, needs = Subject(role, condition), {"model": model}
                attacked[subject] = ctx.artifact("attack", str(subject), settings, needs, trains=attack.trains)
    return attacked


def irreplaceable(ctx: BuildContext, attack: RunAttack) -> dict[Role, str]:
    """Explain which models an attack cannot reach, because it returns another model than the one given.

    Args:
        ctx: The run.
        attack: The attack.
    """
    replaces = isinstance(attack.attack, ModelAttack) and attack.attack.replaces
    if not replaces or not has_own_inference(ctx.method):
        return {}
    reason = (
        f"the attack builds another model, but the weights of method={ctx.method_name} answer only together with "
        "modules attached to them"
    )
    return {"unlearned": reason}


def extractions(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[tuple[Role, str], Artifact]:
    """Ask every model as every attack of ``attacks`` that asks does.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid, or there is nothing to ask about.
    """
    found: dict[tuple[Role, str], Artifact] = {}
    for name, each in ctx.attacks.items():
        attack = each.attack
        if not isinstance(attack, ExtractionAttack):
            continue
        _check_own_prompts(ctx, each, "asks with the prompts of the model")
        asked = next((facts for facts in ctx.dataset.evaluation().values() if facts.purpose == "forget"), None)
        if not asked:
            raise UserError(f"{each.option} asks about the facts to forget, but dataset={ctx.dataset.name} has none")
        attack.check(asked)
        settings = {
            "attack": each.config.keyed, "set": asked.name, "facts": digest_of(asked, ASKED_FIELDS), "seed": ctx.seed,
            "max_new_tokens": ctx.config.evaluation.max_new_tokens, "model": ctx.inference_settings,
        }  # fmt: skip
        proposing = proposer(ctx, each)
        for role, model in models.items():
            needs = {"model": model, **proposing.needs}
            found[role, name] = ctx.artifact(
                "extract", f"{role} {name}", {**settings, **proposing.settings}, needs, **proposing.inputs
            )
    return found


def extraction_settings(
    ctx: BuildContext, found: Mapping[tuple[Role, str], Artifact]
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Build what `evaluate` needs to know of the attacks that ask, by name.

    Args:
        ctx: The run.
        found: Their results, by role and name of the attack.
    """
    return {
        name: {
            "attack": ctx.config.attacks[name].keyed,
            "label": ctx.config.attacks[name].label,
            "set": each.settings["set"],
            **({"proposed": True} if PROPOSER in each.settings else {}),
        }
        for (_, name), each in found.items()
    }


def evaluate_attacked(ctx: BuildContext, models: RunModels[Artifact], condition: str) -> EvaluationInputs[Artifact]:
    """Predict, score and run ability tasks with the models under one attack, as with the models themselves.

    Ability tasks have prompts of their own, which an attack on prompts does not reach: they are not run under it; nor
    is MEMO of the true answers measured where it asks for other answers.

    Args:
        ctx: The run.
        models: The models.
        condition: Name of the attack.
    """
    chosen = ctx.attacks[condition]
    attack = chosen.attack
    ability: Mapping[tuple[Role, str], Artifact] = {}
    measured: Mapping[Role, Artifact] = {}
    if isinstance(attack, PromptAttack):
        attacked = models.by_role
        scored = attacked if attack.same_answers else {}
        translated = translations(ctx, chosen)
        needs = {} if translated is None else {TRANSLATIONS: translated}
        ctx = replace(ctx, prompt_attack=_prompt_settings(ctx, chosen, attack), prompt_needs=needs)
    else:
        attacked = scored = models.after(condition)
        ability = abilities(ctx, attacked, target=models.target, condition=condition).results
        measured = attacked if isinstance(attack, ModelAttack) and attack.records else {}
    return EvaluationInputs(
        predictions={role: predict(ctx, str(Subject(role, condition)), model) for role, model in attacked.items()},
        scores={
            (role, "answers"): score_answers(ctx, f"{Subject(role, condition)} answers", model)
            for role, model in scored.items()
        },
        abilities=ability,
        measured=measured,
    )


def attack_labels(ctx: BuildContext) -> dict[str, str]:
    """Describe every attack for tables, with the facts to forget that it asks, if not all, and the ways it tries.

    Args:
        ctx: The run.
    """
    return {condition: _label(each) for condition, each in ctx.attacks.items()}


def _label(attack: RunAttack) -> str:
    label, ways = attack.config.label, attack.ways
    if not ways:
        return label
    asked, tries = sum(map(bool, ways)), max(ways)
    notes = [f"{asked} of {len(ways)} questions"] * (asked < len(ways)) + [f"best of {tries} ways"] * (tries > 1)
    return f"{label} ({', '.join(notes)})" if notes else label


def conditions(ctx: BuildContext) -> list[str]:
    """List the attacks under which predictions and scores are computed again: those on models or prompts, by name."""
    return [name for name, each in ctx.attacks.items() if isinstance(each.attack, (ModelAttack, PromptAttack))]


def partly_relearned(ctx: BuildContext) -> dict[str, list[str]]:
    """List the facts to forget on which an attack trains, by name of the attack, if it leaves some of them out."""
    forget = {fact.id for fact in ctx.dataset.facts("forget")}
    found = {}
    for name, each in ctx.attacks.items():
        if isinstance(each.attack, ModelAttack) and each.attack.trains:
            trained = [row.id for row in each.rows if row.id in forget]
            if 0 < len(trained) < len(forget):
                found[name] = trained
    return found


def attack_settings(ctx: BuildContext, attack: RunAttack) -> dict[str, Any]:
    """Build the settings of the stage of an attack on models.

    Args:
        ctx: The run.
        attack: The attack.

    Raises:
        UserError: The attack does not fit the run.
    """
    option, config = attack.option, attack.config
    settings: dict[str, Any] = {"attack": config.keyed}
    if attack.rows:
        settings |= {"rows": digest_of(attack.rows, TRAINED_FIELDS), "seed": ctx.seed}
    if not (isinstance(attack.attack, ModelAttack) and attack.attack.trains):
        return {**settings, "model": ctx.inference_settings}
    recipe = config.recipe(option, ctx.config.model.name)
    if absent := [name for name in Learning.model_fields if name not in recipe]:
        raise UserError(f"{option}.{absent[0]} is required: an attack that trains needs a recipe")
    if not attack.rows:
        raise UserError(f"{option} trains on facts, but dataset={ctx.dataset.name} has none of that kind; leave it out")
    if config.curve is not None:
        settings["curve"] = {"every": config.curve, "max_new_tokens": ctx.config.evaluation.max_new_tokens}
    return {**settings, "recipe": recipe, "model": _training_settings(ctx, option, config)}


def _training_settings(ctx: BuildContext, option: str, config: AttackConfig) -> dict[str, Any]:
    """Build the settings of the trained model: adapters are those of ``model.lora``, else the attack's own."""
    settings = ctx.training_settings
    if settings["lora"] is not None or config.lora is None or config.lora.matrices is None:
        return settings
    if ctx.config.trainer.strategy == "fsdp":
        expected = "null for trainer.strategy=fsdp, which trains all weights; for adapters, set trainer=ddp"
        raise invalid_option(f"{option}.lora.rank", config.lora.rank, expected)
    return {**settings, "lora": config.lora.matrices}


def _prompt_settings(ctx: BuildContext, chosen: RunAttack, attack: PromptAttack) -> dict[str, Any]:
    """Build the settings of an attack on prompts, which the stages that run a model share."""
    _check_own_prompts(ctx, chosen, "transforms prompts")
    if not any(chosen.ways):
        raise UserError(
            f"{chosen.option} cannot ask any of the facts to forget of dataset={ctx.dataset.name}: it needs "
            f"{attack.needs}; leave it out with ~{chosen.option}"
        )
    rows = digest_of(chosen.rows, TRAINED_FIELDS)
    settings: dict[str, Any] = {
        "attack": chosen.config.keyed, "version": attack.version, "rows": rows, "seed": ctx.seed,
    }  # fmt: skip
    if chosen.written is not None:
        settings[WRITTEN] = chosen.written
    if attack.fields:
        settings["facts"] = [digest_of(each, ("id", *attack.fields)) for each in ctx.dataset.evaluation().values()]
    return settings


def _check_own_prompts(ctx: BuildContext, attack: RunAttack, does: str) -> None:
    """Refuse an attack on prompts where a published evaluation protocol brings its own."""
    if ctx.protocol != OWN_PROTOCOL:
        raise UserError(
            f"{attack.option} {does}, but evaluation.protocol={ctx.protocol} has prompts of its own; "
            f"leave the attack out or set evaluation.protocol={OWN_PROTOCOL}"
        )
