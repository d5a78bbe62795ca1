"""The node `unlearn`: the recipe, the selection of inverted facts and the selection of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.config.methods import check_aggregate
from meow_lightning.config.model_options import INIT_STREAMS
from meow_lightning.config.recipes import OPTIM, RECIPE, method_recipe, training_overrides
from meow_lightning.data.examples import check_init
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.streams.resolve import check_streams
from meow_lightning.data.streams.split import Split
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.methods.base import BaseMethod
from meow_lightning.pipeline.nodes.context import BuildContext
from meow_lightning.pipeline.nodes.models import InitialModels
from meow_lightning.pipeline.nodes.predict import predict_under_own_protocol
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import digest as file_digest


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyperparameters of unlearning.

    Attributes:
        values: Hyperparameters by name.
        origin: Source of each value that a method may set, by option.
    """

    values: dict[str, Any]
    origin: dict[str, str]


def recipe_of(ctx: BuildContext) -> Recipe:
    """Resolve the recipe: the values of ``optim``, and the method's own where ``optim`` sets none."""
    optim = ctx.config.optim
    values = {name: getattr(optim, name) for name in OPTIM} | training_overrides(optim)
    origin = {}
    for name in RECIPE:
        values[name], origin[f"optim.{name}"] = method_recipe(ctx.config, name)
    return Recipe(values, origin)


def unlearned_model(ctx: BuildContext, models: InitialModels) -> Artifact:
    """Build the model of a method without inverted facts; for one that trains nothing, the model it starts from."""
    check_streams(ctx.streams, ctx.dataset, method=ctx.method_name)
    return unlearn(ctx, ctx.label, models, {}) if ctx.method.streams else _start(ctx, models)


def unlearn(ctx: BuildContext, label: str, models: InitialModels, selection: Mapping[str, Artifact]) -> Artifact:
    """Unlearn from the model that the method starts from.

    Args:
        ctx: The run.
        label: Role of the model.
        models: The models before unlearning.
        selection: Results to select inverted facts from: ``filtered``, ``candidate_scores``, with a baseline
            ``baseline_scores``, and from the second round on ``previous``, the previous round's model; empty for a
            method without inverted facts.
    """
    check_aggregate(ctx.config.optim.aggregate, ctx.method, name=ctx.method_name)
    _check_attached(ctx)
    settings: dict[str, Any] = {
        "method": ctx.config.method.keyed, "recipe": recipe_of(ctx).values, "seed": ctx.seed,
        "model": {**ctx.training_settings, "lora": ctx.config.adapters},
        "rows": {
            name: builder.digest(ctx.dataset, seed=ctx.seed)
            for name, builder in _rows_read(ctx).items()
            if name != "inverted"  # its key is that of the results to select from
        },
    }  # fmt: skip
    inputs: dict[str, Any] = {
        "reference": ctx.method.reference, "evaluation": ctx.config.evaluation.plain(),
        "attaches": ctx.method.attaches,
    }  # fmt: skip
    _check_refusals(ctx)
    if ctx.config.method.redraw_refusals:
        settings["redraw_refusals"] = True
    if (file := ctx.config.method.refusals) is not None:
        inputs["refusals"] = file
    if selection:
        settings["select"] = ctx.select.keyed
        if "previous" not in selection:  # too few inverted facts matter only in the first round
            inputs["on_shortage"] = ctx.config.inversion.on_shortage
        elif ctx.repetition is not None:
            settings["select"]["k"] = ctx.repetition.k
    needs = {"start": _start(ctx, models), **_anchor(ctx, models), **selection}
    if ctx.chooses_checkpoint:
        settings["checkpoint"] = _checkpoint_selection(ctx, models)
        needs |= _selection_reference(ctx, models)
    return ctx.artifact("unlearn", label, settings, needs, **inputs)


def _rows_read(ctx: BuildContext) -> dict[str, StreamBuilder]:
    """Return the builders of the method's streams, and of the sets that initial values of adapters depend on."""
    init = (ctx.config.adapters or {}).get("init", "default")
    check_init(init, ctx.dataset)
    return {**{name: Split(name) for name in INIT_STREAMS[init]}, **ctx.streams}


def _check_refusals(ctx: BuildContext) -> None:
    """Check that the options of refusals have an effect, and that a plan of batches is possible.

    Raises:
        UserError: They have none, or redrawn refusals would have to be sorted by length.
    """
    method = ctx.config.method
    given = {"refusals": method.refusals, "redraw_refusals": method.redraw_refusals or None}
    for name, value in given.items():
        if value is not None and "idk" not in ctx.method.streams:
            shown = str(value).lower() if value is True else value
            raise UserError(f"method.{name}={shown} has no effect: method={ctx.method_name} trains on no refusals")
    if method.redraw_refusals and ctx.config.optim.batch_tokens is not None:
        expected = "false with optim.batch_tokens, since refusals of other epochs have other lengths"
        raise invalid_option("method.redraw_refusals", "true", expected, did_you_mean="false")


def _check_attached(ctx: BuildContext) -> None:
    """Reject adapters and sharding for a method that attaches modules to the model.

    Raises:
        UserError: Either is set.
    """
    if not ctx.method.attaches:
        return
    reason = f": method={ctx.method_name} attaches modules of its own to the model"
    if (adapters := ctx.config.adapters) is not None:
        raise invalid_option(ctx.config.adapters_option, adapters["rank"], f"null{reason}")
    if ctx.config.trainer.strategy == "fsdp":
        raise invalid_option("trainer.strategy", "fsdp", f"ddp (trainer=ddp){reason}")


def _start(ctx: BuildContext, models: InitialModels) -> Artifact:
    start = models.target if ctx.method.start == "target" else models.retain
    if start is None:
        raise UserError(
            f"method={ctx.method_name} starts from the retain model, but {ctx.roles.retain_missing_reason}"
        )  # fmt: skip
    return start


def _anchor(ctx: BuildContext, models: InitialModels) -> dict[str, Artifact]:
    """Provide the retain model to a loss that compares with a frozen model, if ``method.anchor`` says so.

    Raises:
        UserError: The loss compares with no model, or there is no retain model.
    """
    if ctx.config.method.anchor == "start":
        return {}
    if ctx.method.reference not in ("model", "both"):
        reason = f"start: the loss of method={ctx.method_name} compares with no model (method.retain=kl does)"
        raise invalid_option("method.anchor", "retain", reason, did_you_mean="start")
    if models.retain is None:
        raise UserError(f"method.anchor=retain needs the retain model, but {ctx.roles.retain_missing_reason}")
    return {"anchor": models.retain}


def _checkpoint_selection(ctx: BuildContext, models: InitialModels) -> dict[str, Any]:
    """Build the settings that the selection of an epoch depends on.

    Raises:
        UserError: No epoch can be selected.
    """
    evaluation = ctx.config.evaluation
    if not ctx.selection_fraction:
        raise UserError(
            "optim.checkpoint=best selects an epoch on held-out questions, which no metric counts; set "
            "evaluation.selection_fraction, the share of every set to hold out, for example to 0.25"
        )
    if type(ctx.method).finalize is not BaseMethod.finalize:
        raise UserError(
            f"method={ctx.method_name} changes the model after its last step, so no epoch can be selected; set "
            "optim.checkpoint=last"
        )
    if models.retain is None and ctx.retain_predictions is None:
        raise UserError(
            f"optim.checkpoint=best compares every epoch with the retain model, but {ctx.roles.retain_missing_reason}; "
            "set model.retain or evaluation.retain_predictions, or set optim.checkpoint=last"
        )
    settings: dict[str, Any] = {
        "selection_fraction": evaluation.selection_fraction, "max_new_tokens": evaluation.max_new_tokens,
        "truth_ratio_mean": evaluation.truth_ratio_mean, "protocol": evaluation.protocol,
    }  # fmt: skip
    if ctx.retain_predictions is not None:
        settings["retain_predictions"] = file_digest(Path(ctx.retain_predictions))
    return {**settings, "sets": ctx.evaluation_digests()}


def _selection_reference(ctx: BuildContext, models: InitialModels) -> dict[str, Artifact]:
    """Predict with the retain model under our own protocol: the reference that every epoch is compared with."""
    if ctx.retain_predictions is not None or models.retain is None:
        return {}
    sets = ctx.dataset.evaluation().keys()
    return {"retain_predictions": predict_under_own_protocol(ctx, "retain", models.retain, sets)}
