"""Nodes that read the hidden states of the models of a run."""

from __future__ import annotations

from collections.abc import Mapping

from meow_lightning.attacks.base import LayerAttack
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.stages.common.stored_method import has_own_inference
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Role


def inspected_layers(ctx: BuildContext, models: Mapping[Role, Artifact]) -> dict[tuple[Role, str], Artifact]:
    """Read the layers of every model with every attack of ``attacks`` on hidden states, by role and name of the attack.

    An attack that patches reads no target model, whose own states change nothing.

    Args:
        ctx: The run.
        models: The models, by role.

    Raises:
        UserError: The configuration of an attack is invalid.
    """
    found: dict[tuple[Role, str], Artifact] = {}
    for name, each in ctx.attacks.items():
        attack = each.attack
        if not isinstance(attack, LayerAttack):
            continue
        settings = {
            "attack": each.config.keyed,
            "facts": ctx.facts_digest("forget", "id", "question", "answer", "value", "values"),
            "model": ctx.inference_settings,
        }  # fmt: skip
        for role, model in models.items():
            if role in layerless(ctx) or (attack.patches and role == "target"):
                continue
            needs = {"model": model, **({"target": models["target"]} if attack.patches else {})}
            found[role, name] = ctx.artifact("inspect", f"{role} {name}", settings, needs)
    return found


def layerless(ctx: BuildContext) -> dict[Role, str]:
    """Explain which models have no layers of their own that could be read."""
    if not has_own_inference(ctx.method):
        return {}
    return {"unlearned": f"method={ctx.method_name} answers through several models, which share no layers"}
