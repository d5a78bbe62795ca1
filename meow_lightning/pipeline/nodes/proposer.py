"""The language model that writes prompts for an attack, as part of the attack's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meow_lightning.config.instantiate import component_class
from meow_lightning.config.options import RUNTIME_ARGUMENTS
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import TEACHER_PROMPT, provided_model
from meow_lightning.pipeline.nodes.run_attack import RunAttack
from meow_lightning.stages.common.proposer import PROPOSER, named_as
from meow_lightning.store.artifact import Artifact


@dataclass(frozen=True, slots=True)
class ProposerNeeds:
    """What a proposer adds to the artifacts of its attack; nothing without one.

    Attributes:
        settings: Keyed settings.
        inputs: Runtime inputs.
        needs: Its model, if it runs here.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, Artifact] = field(default_factory=dict)


def proposer(ctx: BuildContext, attack: RunAttack) -> ProposerNeeds:
    """Describe the proposer of an attack.

    Args:
        ctx: The run.
        attack: The attack.

    Raises:
        UserError: An option is invalid, or the model is not found.
    """
    chosen = attack.config.proposer
    if chosen is None:
        return ProposerNeeds()
    option, allow = f"{attack.option}.{PROPOSER}", ctx.config.trusted_packages
    writer: type[Writer] = component_class(chosen.keyed, allow=allow)
    with named_as(option):
        chosen.instantiate(allow=allow, **(dict.fromkeys(RUNTIME_ARGUMENTS) if writer.runs_locally else {}))
    keyed = {name: value for name, value in chosen.keyed.items() if name not in writer.unkeyed_options}
    needs = {}
    if writer.runs_locally:
        model = ctx.roles.other(f"{option}.model", chosen.arguments["model"], words=())
        needs = {PROPOSER: provided_model(ctx, PROPOSER, model, TEACHER_PROMPT)}
    return ProposerNeeds(
        settings={PROPOSER: {**keyed, "per_reply": chosen.per_reply}},
        inputs={
            PROPOSER: {"option": option, "node": chosen.keyed, "paid": writer.paid},
            "reuse": ctx.config.cache != "refresh",
        },
        needs=needs,
    )  # fmt: skip
