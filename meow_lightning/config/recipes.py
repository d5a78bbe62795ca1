"""Training recipes: the values of ``optim`` if set, else those of the method's table for the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meow_lightning.config.training_options import Finetune, Optim
from meow_lightning.errors import UserError

if TYPE_CHECKING:
    from meow_lightning.config.schema import RunConfig

OPTIM = ("betas", "eps", "weight_decay", "max_grad_norm", "warmup", "schedule")  # the same for every method
RECIPE = ("lr", "epochs", "global_batch_size")
# Defaults of `optim`; part of the recipe, and so of its key, only if changed.
PLAIN = {
    "optimizer": "adamw",
    "batch_tokens": None,
    "aggregate": "mean",
}


def training_overrides(optim: Optim) -> dict[str, Any]:
    """Select the options of ``optim`` that differ from ``PLAIN``, so that older results keep their keys."""
    changed = {name: getattr(optim, name) for name, plain in PLAIN.items() if getattr(optim, name) != plain}
    if optim.sam_rho:
        changed |= {"sam_rho": optim.sam_rho, "sam_terms": optim.sam_terms}
    if optim.aggregate == "worst":
        changed |= {"aggregate_temperature": optim.aggregate_temperature}
    return changed


def method_recipe(config: RunConfig, name: str) -> tuple[Any, str]:
    """Resolve a number of a recipe from ``optim``, or else from the method's table for the model.

    Args:
        config: The options.
        name: One of ``RECIPE``.

    Returns:
        The value and its origin, for the report.

    Raises:
        UserError: Neither has a value.
    """
    override, table = getattr(config.optim, name), getattr(config.method, name)
    method, model = config.method.name, config.model.name
    if override is not None:
        return override, f"optim.{name}"
    if not isinstance(table, Mapping):
        if table is None:
            raise UserError(f"optim.{name} is null and conf/method/{method}.yaml defines no {name}; set optim.{name}")
        return table, f"method.{name}"
    key = _key(table, f"method.{name}", model, f"; set optim.{name}")
    return table[key], f"method/{method}.yaml: {name}.{key}"


def recipe_for_rows(recipe: Finetune, rows: int) -> dict[str, Any]:
    """Adapt the batch and epochs of a fine-tuning recipe to a number of rows.

    A small set gets a smaller batch, so that an epoch has at least ``epoch_steps`` steps if there are enough rows. If
    ``epochs`` epochs give fewer than ``steps`` steps, epochs are added until they suffice, and training ends with the
    first epoch from ``epochs`` on whose mean loss is at most ``known`` (``until``). A large set gets the plain recipe,
    without ``until``. Unadapted, with a batch of 32 and 5 epochs, 24 rows would give 5 steps and 4,000 rows 625.

    Args:
        recipe: ``model.finetune``.
        rows: Number of rows to learn, at least 1; every epoch adds ``replay`` further rows.
    """
    planning = ("also", "steps", "epoch_steps", "known")  # splits, and options that only this function reads
    plain = {name: value for name, value in recipe.plain().items() if name not in planning}
    if not recipe.steps or not recipe.epochs:
        return plain
    epoch_rows = rows + recipe.replay
    batch = min(recipe.global_batch_size, max(1, epoch_rows // recipe.epoch_steps))
    epochs = -(-recipe.steps // -(-epoch_rows // batch))
    if epochs <= recipe.epochs:
        return {**plain, "global_batch_size": batch}
    until = {} if recipe.known is None else {"until": {"loss": recipe.known, "epochs": recipe.epochs}}
    return {**plain, "global_batch_size": batch, "epochs": epochs, **until}


def value_for_model(table: Any, option: str, model: str) -> Any:
    """Look up the entry of a table for a model, or its default; a plain value applies to every model.

    Args:
        table: A table by model name, or a plain value.
        option: The dotted option, for the message.
        model: Name of the model.

    Raises:
        UserError: The table has neither entry.
    """
    return table[_key(table, option, model, f"; set {option}")] if isinstance(table, Mapping) else table


def _key(table: Mapping[str, Any], option: str, model: str, remedy: str) -> str:
    if model not in table and "default" not in table:
        raise UserError(f"{option} has no entry for {model} and no default (entries: {', '.join(table)}){remedy}")
    return model if model in table else "default"
