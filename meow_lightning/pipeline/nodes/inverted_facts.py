"""Nodes that obtain inverted facts: `propose` requests them from a writer, `filter` keeps the usable ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meow_lightning.data.examples import secret_texts
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.graph import Round
from meow_lightning.pipeline.nodes.context import KEPT_FIELDS, BuildContext
from meow_lightning.pipeline.nodes.models import base_model, initial_models, teacher_model
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


def propose(ctx: BuildContext, label: str, writer: type[Writer], previous: Round | None) -> Artifact:
    """Request inverted facts: for every fact in the first round, later for those that are still memorized."""
    inversion = ctx.config.inversion
    unkeyed = ("candidates", *writer.unkeyed_options)  # the number of candidates is part of the key as `count`
    keyed: dict[str, Any] = {key: value for key, value in inversion.keyed.items() if key not in unkeyed}
    if "path" in inversion.arguments:
        keyed["file"] = file_digest(Path(inversion.arguments["path"]))
    settings: dict[str, Any] = {
        "inversion": keyed, "max_retries_per_fact": inversion.max_retries_per_fact,
        "facts": ctx.facts_digest("forget"), "rounds": None, "count": inversion.candidates, **_secrets(ctx),
    }  # fmt: skip
    # Filtering decides which requests are repeated, and reads the kept facts.
    if writer.reads_other_facts or inversion.max_retries_per_fact:
        settings["others"] = ctx.facts_digest("retain", *KEPT_FIELDS)
    settings |= _repetition_settings(ctx, previous, count=settings["count"], retries=inversion.max_retries_per_fact)
    needs = {"teacher": _teacher(ctx, writer)} if writer.runs_locally else {}
    if previous is not None and previous.scores is not None and previous.predictions is not None:
        needs |= {
            "previous_filtered": previous.filtered, "proposed": previous.proposed, "scores": previous.scores,
            "predictions": previous.predictions,
        }  # fmt: skip
    inputs = {
        "inversion": inversion.keyed, "runs_locally": writer.runs_locally, "reuse": ctx.config.cache != "refresh",
    }  # fmt: skip
    return ctx.artifact("propose", label, settings, needs, **inputs)


def _teacher(ctx: BuildContext, writer: type[Writer]) -> Artifact:
    """Describe the model that a writer runs: the one that its options name, or the run's base or target model.

    Raises:
        UserError: It samples the base model, and the run has none.
    """
    if writer.samples == "named":
        return teacher_model(ctx)
    if writer.samples == "target":
        return initial_models(ctx).target
    if not ctx.roles.has_base:
        name = ctx.config.inversion.name
        raise UserError(
            f"inversion={name} is invalid: expected a run with a base model, which never knew the facts and writes the "
            "inverted ones, but model.base is not set; set model.base=FOLDER, or inversion=rules, which needs no "
            "model, inversion=local inversion.model=FOLDER (a language model), or inversion=file inversion.path=FILE"
        )
    return base_model(ctx)


def _repetition_settings(
    ctx: BuildContext, previous: Round | None, *, count: int | None, retries: int
) -> dict[str, Any]:  # fmt: skip
    """Build the settings that a method with rounds adds; empty for other methods."""
    repetition = ctx.repetition
    if repetition is None:
        return {}
    settings: dict[str, Any] = {"count": repetition.candidates or count}
    if previous is not None:
        return {
            **settings,
            "rounds": {
                "memorized_above": repetition.memorized_above,
                "requery": repetition.requery,
                "max_requests": repetition.max_requests,
            },
        }
    possible = len(ctx.dataset.facts("forget")) * (retries + 1)
    if repetition.max_requests is not None and repetition.max_requests < possible:
        # A larger budget cannot be exceeded in the first round.
        settings["rounds"] = {"max_requests": repetition.max_requests}
    return settings


def _secrets(ctx: BuildContext) -> dict[str, Any]:
    """Mark facts with several secrets, none of which an inverted answer may give: results without it are older."""
    several = any(len(secret_texts(fact)) > 1 for fact in ctx.dataset.facts("forget"))
    return {"secrets": "any"} if several else {}


def filter_replies(ctx: BuildContext, label: str, proposed: Artifact, previous: Round | None) -> Artifact:
    """Keep the usable inverted facts of a round, those of earlier rounds first."""
    on_shortage, least = ctx.config.inversion.on_shortage, ctx.select.k
    fill = {"least": least, "candidates": 8, "seed": ctx.seed}
    settings = {
        "facts": ctx.facts_digest("forget"),
        "fill": fill if on_shortage == "rules" and previous is None else None,
        "others": ctx.facts_digest("retain", *KEPT_FIELDS), **_secrets(ctx),
    }  # fmt: skip
    needs = {"proposed": proposed, **({"previous_filtered": previous.filtered} if previous else {})}
    return ctx.artifact("filter", label, settings, needs, at_least=least, on_shortage=on_shortage)
