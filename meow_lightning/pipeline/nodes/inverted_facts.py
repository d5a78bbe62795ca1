"""Nodes that obtain inverted facts: `propose` asks a teacher for them, `filter` keeps the usable ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import component_config
from meow_lightning.inversion.base import Writer
from meow_lightning.pipeline.graph import Round
from meow_lightning.pipeline.nodes.context import KEPT_FIELDS, BuildContext
from meow_lightning.pipeline.nodes.models import teacher_model
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


def propose(ctx: BuildContext, label: str, writer: type[Writer], former: Round | None) -> Artifact:
    """Ask for inverted facts: of every fact in the first round, later of those that are still memorized."""
    node = ctx.options["inversion"]
    unkeyed = ("candidates", *writer.unkeyed_options)  # the number of candidates stands in the key as `count`
    keyed: dict[str, Any] = {key: value for key, value in component_config(node).items() if key not in unkeyed}
    if "path" in node:
        keyed["file"] = file_digest(Path(node["path"]))
    settings: dict[str, Any] = {
        "inversion": keyed, "max_retries_per_fact": node["max_retries_per_fact"], "facts": ctx.facts_digest("forget"),
        "rounds": None, "count": node.get("candidates"),
    }  # fmt: skip
    # Filtering decides what is asked again, and reads the kept facts.
    if writer.reads_other_facts or node["max_retries_per_fact"]:
        settings["others"] = ctx.facts_digest("retain", *KEPT_FIELDS)
    settings |= _repetition_settings(ctx, former, count=settings["count"], retries=node["max_retries_per_fact"])
    needs = {"teacher": teacher_model(ctx)} if writer.runs_locally else {}
    if former is not None and former.scores is not None and former.predictions is not None:
        needs |= {
            "former": former.filtered, "asked": former.proposed, "scores": former.scores,
            "answers": former.predictions,
        }  # fmt: skip
    inputs = {"inversion": node, "runs_locally": writer.runs_locally, "reuse": ctx.options["cache"] != "refresh"}
    return ctx.artifact("propose", label, settings, needs, **inputs)


def _repetition_settings(
    ctx: BuildContext, former: Round | None, *, count: int | None, retries: int
) -> dict[str, Any]:  # fmt: skip
    """What the rounds of a method add to the settings."""
    again = ctx.repetition
    if again is None:
        return {}
    found: dict[str, Any] = {"count": again.candidates or count}
    if former is not None:
        return {
            **found,
            "rounds": {
                "memorized_above": again.memorized_above,
                "requery": again.requery,
                "max_requests": again.max_requests,
            },
        }
    most = len(ctx.dataset.facts("forget")) * (retries + 1)
    if again.max_requests is not None and again.max_requests < most:  # a larger budget cannot bind in the first round
        found["rounds"] = {"max_requests": again.max_requests}
    return found


def filter_replies(ctx: BuildContext, label: str, proposed: Artifact, former: Round | None) -> Artifact:
    """Keep the usable inverted facts of a round, those of earlier rounds first."""
    node, least = ctx.options["inversion"], ctx.options["method"]["select"]["k"]
    fill = {"least": least, "candidates": 8, "seed": ctx.seed}
    settings = {
        "facts": ctx.facts_digest("forget"),
        "fill": fill if node["on_shortage"] == "rules" and former is None else None,
        "others": ctx.facts_digest("retain", *KEPT_FIELDS),
    }  # fmt: skip
    needs = {"asked": proposed, **({"former": former.filtered} if former else {})}
    return ctx.artifact("filter", label, settings, needs, at_least=least, on_shortage=node["on_shortage"])
