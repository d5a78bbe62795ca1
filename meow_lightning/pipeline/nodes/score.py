"""Nodes that measure memorization, and nodes that verify some of the scored windows."""

from __future__ import annotations

from typing import Any

from meow_lightning.config.schema import MemoConfig
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.store.artifact import Artifact


def score_answers(
    ctx: BuildContext, label: str, model: Artifact, *, cut_unit: str | None = None, previous: Artifact | None = None
) -> Artifact:
    """Score the true answers of the facts to forget.

    Args:
        ctx: The run.
        label: Label of the scores.
        model: The model to score.
        cut_unit: Cut after every such unit; ``None`` for ``memo.cut_unit`` and ``memo.stride``.
        previous: Scores of the previous round, carried over if the model is the same.
    """
    settings = {**_settings(ctx, cut_unit), "facts": ctx.facts_digest("forget", "id", "question", "answer")}
    needs = {"model": model, **ctx.prompt_needs, **({"previous": previous} if previous else {})}
    return ctx.artifact("score", label, settings, needs)


def score_candidates(
    ctx: BuildContext, label: str, model: Artifact, filtered: Artifact, *, previous: Artifact | None
) -> Artifact:
    """Score the inverted facts that are new.

    Args:
        ctx: The run.
        label: Label of the scores.
        model: The model to score.
        filtered: The inverted facts.
        previous: The inverted facts of the previous round, which have scores already.
    """
    needs = {"model": model, "filtered": filtered, **({"previous_filtered": previous} if previous else {})}
    return ctx.artifact("score", label, _settings(ctx, None), needs)


def verify(ctx: BuildContext, scores: Artifact) -> Artifact | None:
    """Compute some windows of a score again; ``None`` if ``memo.verify`` is 0."""
    windows = ctx.config.memo.verify
    if not windows:
        return None
    settings = {**scores.settings, "windows": windows, "seed": ctx.seed}
    return ctx.artifact("verify", scores.label, settings, {**scores.needs, "scores": scores})


def cut_every(memo: MemoConfig, cut_unit: str) -> MemoConfig:
    """Configure MEMO to cut after every unit."""
    return memo.model_copy(update={"arguments": {**memo.arguments, "cut_unit": cut_unit, "stride": 1}})


def _settings(ctx: BuildContext, cut_unit: str | None) -> dict[str, Any]:
    memo = ctx.config.memo
    return {"memo": (memo if cut_unit is None else cut_every(memo, cut_unit)).keyed, "model": ctx.inference_settings}
