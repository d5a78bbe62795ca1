"""The language model that writes prompts for an attack, as part of the attack's results."""

from __future__ import annotations

from meow_lightning.pipeline.nodes.attack_writer import WriterNeeds, writer_needs
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.run_attack import RunAttack
from meow_lightning.stages.common.proposer import PROPOSER


def proposer(ctx: BuildContext, attack: RunAttack) -> WriterNeeds:
    """Describe the proposer of an attack; nothing without one.

    Args:
        ctx: The run.
        attack: The attack.

    Raises:
        UserError: An option is invalid, or the model is not found.
    """
    chosen = attack.config.proposer
    if chosen is None:
        return WriterNeeds()
    option = f"{attack.option}.{PROPOSER}"
    return writer_needs(ctx, chosen, option=option, name=PROPOSER, per_reply=chosen.per_reply)
