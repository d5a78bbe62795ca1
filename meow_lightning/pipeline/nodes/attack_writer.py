"""A language model that writes texts for an attack, as part of the results that read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meow_lightning.config.instantiate import component_class
from meow_lightning.config.options import RUNTIME_ARGUMENTS, ComponentConfig
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import TEACHER_PROMPT, provided_model
from meow_lightning.stages.common.attack_writer import named_as
from meow_lightning.store.artifact import Artifact


@dataclass(frozen=True, slots=True)
class WriterNeeds:
    """What a writer adds to an artifact; nothing without one.

    Attributes:
        settings: Keyed settings.
        inputs: Runtime inputs.
        needs: Its model, if it runs here.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, Artifact] = field(default_factory=dict)


def writer_needs(ctx: BuildContext, chosen: ComponentConfig, *, option: str, name: str, **keyed: Any) -> WriterNeeds:
    """Describe the writer of an attack.

    Args:
        ctx: The run.
        chosen: Its configuration.
        option: The dotted option that configures it.
        name: Name of its settings, inputs and model.
        **keyed: Further keyed settings.

    Raises:
        UserError: An option is invalid, or the model is not found.
    """
    allow = ctx.config.trusted_packages
    writer: type[Writer] = component_class(chosen.keyed, allow=allow)
    with named_as(option):
        chosen.instantiate(allow=allow, **(dict.fromkeys(RUNTIME_ARGUMENTS) if writer.runs_locally else {}))
    needs = {}
    if writer.runs_locally:
        model = ctx.roles.other(f"{option}.model", chosen.arguments["model"], words=())
        needs = {name: provided_model(ctx, name, model, TEACHER_PROMPT)}
    own = {key: value for key, value in chosen.keyed.items() if key not in writer.unkeyed_options}
    return WriterNeeds(
        settings={name: {**own, **keyed}},
        inputs={
            name: {"option": option, "node": chosen.keyed, "paid": writer.paid}, "reuse": ctx.config.cache != "refresh"
        },
        needs=needs,
    )  # fmt: skip
