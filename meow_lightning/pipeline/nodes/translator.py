"""The node `translate`: the questions of an attack as a language model translates them."""

from __future__ import annotations

from typing import Any

from meow_lightning.data.encoding import digest_of
from meow_lightning.pipeline.nodes.attack_writer import writer_needs
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.run_attack import RunAttack
from meow_lightning.stages.common.prompts import translated_questions
from meow_lightning.stages.translate import TRANSLATED_FIELDS, TRANSLATOR
from meow_lightning.store.artifact import Artifact


def translations(ctx: BuildContext, attack: RunAttack) -> Artifact | None:
    """Translate the questions of an attack; ``None`` for one without a translator.

    Args:
        ctx: The run.
        attack: The attack.

    Raises:
        UserError: An option is invalid, or the model is not found.
    """
    if attack.config.translator is None:
        return None
    given = writer_needs(ctx, attack.config.translator, option=f"{attack.option}.{TRANSLATOR}", name=TRANSLATOR)
    written = attack.written or {}
    settings: dict[str, Any] = {
        **given.settings,
        **written,
        "facts": digest_of(translated_questions(ctx.dataset, written), TRANSLATED_FIELDS),
    }
    return ctx.artifact("translate", attack.option.rpartition(".")[2], settings, given.needs, **given.inputs)
