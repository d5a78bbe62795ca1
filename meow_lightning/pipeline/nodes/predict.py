"""Nodes that run a model on the evaluation sets."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from meow_lightning.config.evaluation_options import Evaluation
from meow_lightning.data.encoding import digest_of
from meow_lightning.evaluation.metrics import sets_that_need
from meow_lightning.evaluation.protocols.registry import counted_rows, prediction_settings
from meow_lightning.pipeline.nodes.context import PREDICTED_FIELDS, BuildContext
from meow_lightning.store.artifact import Artifact

OWN_PROTOCOL = "none"


def predict(ctx: BuildContext, role: str, model: Artifact) -> Artifact:
    """Run a model on all evaluation sets, under the run's protocol."""
    return _predict(ctx, role, model, ctx.config.evaluation, ctx.dataset.evaluation().keys(), {})


def predict_under_own_protocol(
    ctx: BuildContext, label: str, model: Artifact, sets: Collection[str], *, previous: Artifact | None = None
) -> Artifact:
    """Run a model on some evaluation sets under our own protocol, regardless of ``evaluation.protocol``.

    Args:
        ctx: The run.
        label: Role of the model.
        model: The model to run.
        sets: Names of the sets.
        previous: Predictions of the previous round, carried over if the model is the same.
    """
    evaluation = ctx.config.evaluation.model_copy(update={"protocol": OWN_PROTOCOL})
    return _predict(ctx, label, model, evaluation, sets, {"previous": previous} if previous else {})


def _predict(
    ctx: BuildContext, label: str, model: Artifact, evaluation: Evaluation, names: Collection[str],
    needs: Mapping[str, Artifact],
) -> Artifact:  # fmt: skip
    sets = {
        name: digest_of(counted_rows(evaluation.protocol, facts), PREDICTED_FIELDS)
        for name, facts in ctx.dataset.evaluation().items()
        if name in names
    }
    gradients = (
        sets_that_need("gradient", [each.info for name, each in ctx.dataset.evaluation().items() if name in names])
        if evaluation.gradient_norm
        else []
    )
    settings = {
        "sets": sets, "evaluation": {**prediction_settings(evaluation.plain()), "gradients": gradients},
        "model": ctx.inference_settings,
    }  # fmt: skip
    return ctx.artifact("predict", label, settings, {"model": model, **ctx.prompt_needs, **needs})
