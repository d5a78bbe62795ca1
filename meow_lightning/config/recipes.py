"""What an unlearning run trains with: the command line's ``optim``, else the method's own table for the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meow_lightning.config.validation import has_type
from meow_lightning.errors import UserError

OPTIM = ("betas", "eps", "weight_decay", "max_grad_norm", "warmup", "schedule")  # of optim, alike for every method
RECIPE = ("lr", "epochs", "global_batch_size")
PLAIN = {
    "optimizer": "adamw",
    "batch_tokens": None,
}  # of optim; in recipe, key and report only where they say otherwise


def training_overrides(optim: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``optim`` is other than it was before there was a choice; so results of before keep their keys."""
    return {name: optim[name] for name, plain in PLAIN.items() if optim[name] != plain}


def method_recipe(options: Mapping[str, Any], name: str, model: str) -> tuple[Any, str]:
    """(value, origin) of a recipe's number: what ``optim`` says, else what the method's table says for the model.

    Raises:
        UserError: When neither says anything.
    """
    check_table(options["method"], name)
    said = options["optim"][name]
    if said is not None:
        return said, f"optim.{name}"
    table = options["method"].get(name)
    if not isinstance(table, Mapping):
        if table is None:
            raise UserError(
                f"optim.{name} is null and conf/method/{options['method']['name']}.yaml has none; give optim.{name}=…"
            )
        return table, f"method.{name}"
    key = _key(table, f"method.{name}", model, f"; give optim.{name}=…")
    return table[key], f"method/{options['method']['name']}.yaml: {name}.{key}"


def recipe_for_rows(recipe: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A fine-tuning recipe with its batch and epochs for so many rows.

    A small set is cut into ``epoch_steps`` steps an epoch at least, as far as it has the rows, and where ``epochs``
    make fewer than ``steps`` steps, so many epochs follow that they do. Training then ends with the first epoch from
    ``epochs`` on whose mean loss is at most ``known`` (``until``). A set large enough gets the plain recipe, without
    ``until``: 24 rows at a batch of 32 and 5 epochs would make 5 steps, 4,000 rows make 625.

    Args:
        recipe: ``model.finetune``, with ``global_batch_size``, ``epochs``, ``replay``, ``steps``, ``epoch_steps`` and
            ``known``.
        rows: Rows to be learned, 1 or more; ``replay`` further ones join them in every epoch.
    """
    plain = {name: value for name, value in recipe.items() if name not in ("steps", "epoch_steps", "known")}
    if not recipe["steps"] or not recipe["epochs"]:
        return plain
    every = rows + recipe["replay"]
    batch = min(recipe["global_batch_size"], max(1, every // recipe["epoch_steps"]))
    epochs = -(-recipe["steps"] // -(-every // batch))
    if epochs <= recipe["epochs"]:
        return {**plain, "global_batch_size": batch}
    until = {} if recipe["known"] is None else {"until": {"loss": recipe["known"], "epochs": recipe["epochs"]}}
    return {**plain, "global_batch_size": batch, "epochs": epochs, **until}


def value_for_model(table: Any, option: str, model: str) -> Any:
    """What a table says for a model, or its default; a plain value for every model.

    Raises:
        UserError: When it says neither.
    """
    return table[_key(table, option, model, f"; give {option}=…")] if isinstance(table, Mapping) else table


def _key(table: Mapping[str, Any], option: str, model: str, remedy: str) -> str:
    if model not in table and "default" not in table:
        raise UserError(f"{option} has neither {model} nor default (given: {', '.join(table)}){remedy}")
    return model if model in table else "default"


def check_table(method: Mapping[str, Any], name: str) -> None:
    """Nothing, when a method's table for a recipe's number holds numbers, whichever of them is used.

    Raises:
        UserError: For the first value of another type, by its option.
    """
    check_numbers({key: value for key, value in _entries(method.get(name)) if value is not None}, f"method.{name}",
                  float if name == "lr" else int)  # fmt: skip


def check_numbers(table: Any, option: str, hint: type) -> None:
    """Nothing, when a table holds numbers, or is one itself.

    Raises:
        UserError: For the first value of another type, by its option.
    """
    for key, value in _entries(table):
        if not has_type(value, hint):
            raise UserError(
                f"{f'{option}.{key}'.rstrip('.')}={value} does not fit: "
                f"{'a number' if hint is float else 'a whole number'} is needed"
            )


def _entries(table: Any) -> list[tuple[str, Any]]:
    return list(table.items()) if isinstance(table, Mapping) else [("", table)]
