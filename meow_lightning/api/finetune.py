"""Fine-tuning as a function: a model learns the facts of some splits, as target and retain models of a run do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from meow_lightning.api.training import Log, Observers, Training
from meow_lightning.config.composition import library_options, words_of
from meow_lightning.config.recipes import recipe_for_rows
from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.data.examples import Dataset
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.methods.finetune import FineTune, FineTuneUntilKnown
from meow_lightning.models.language_model import LanguageModel


def finetune(  # noqa: PLR0913 - each is an option of a training
    model: LanguageModel,
    dataset: Dataset,
    *,
    splits: Sequence[str] = ("forget", "retain"),
    lr: float | None = None,
    epochs: int | None = None,
    seed: int = 0,
    options: Sequence[str] = (),
    log: Log | None = None,
    callbacks: Sequence[pl.Callback] = (),
    output_dir: str | Path | None = None,
) -> LanguageModel:
    """Train a copy of a model on the answers of some splits, in this process; the given model stays as it is.

    The recipe is that of ``conf/recipe/tofu.yaml``: a small set gets more epochs than ``epochs`` until it is known.

    Args:
        model: The model to start from, on the device to train on.
        dataset: The facts.
        splits: The splits to learn: ``("forget", "retain")`` for a target model, ``("retain",)`` for a retain model.
        lr: Peak learning rate, above 0; ``None`` for that of ``conf/model/own.yaml``.
        epochs: Passes over the facts, from 0; a small set gets more; ``None`` for the recipe's.
        seed: Seed of the order of the rows, from 0.
        options: Further words of the command line, from the groups ``model.finetune``, ``model.lora``, ``trainer`` and
            ``callbacks``, such as ``model.finetune.steps=0``, which leaves it at ``epochs``.
        log: Called with every logged point of the training: ``step``, ``epoch``, ``loss``, ``lr``.
        callbacks: Further callbacks of the Lightning trainer.
        output_dir: Folder of the training's checkpoints, from which an interrupted call resumes; ``None`` to keep none.

    Returns:
        The trained model in evaluation mode, on the same device.

    Raises:
        UserError: An option is invalid, the splits hold no facts, or training diverged.
    """
    values = {"lr": lr, "epochs": epochs}
    chosen = library_options([*words_of("model.finetune", values), f"seed={seed}", *options])
    if chosen.model.lora.init not in (None, "default"):
        expected = "default, since nothing is forgotten in fine-tuning"
        raise invalid_option("model.lora.init", chosen.model.lora.init, expected, did_you_mean="default")
    facts = [fact for split in splits for fact in dataset.facts(split)]
    if not facts:
        raise UserError(f"dataset={dataset.name} has no facts in {' and '.join(splits)}, so there is nothing to learn")
    recipe = recipe_for_rows(chosen.model.finetune, len(facts))
    rows = encode(model.encoder, training_segments(facts))
    plan = BatchPlan(
        streams={"learn": StreamData(rows=rows)}, global_batch_size=recipe["global_batch_size"], batch_tokens=None,
        epochs=recipe["epochs"], seed=seed, paired=(),
    )  # fmt: skip
    method, until = FineTune(), recipe.get("until")
    if until is not None:
        least = until["epochs"] * plan.steps_per_epoch
        method = FineTuneUntilKnown(known=until["loss"], steps_per_epoch=plan.steps_per_epoch, least=least)
    observers = Observers(log=log, callbacks=callbacks, output_dir=output_dir)
    return Training(model, chosen, chosen.model.lora.matrices).run(method, plan, recipe, observers)
