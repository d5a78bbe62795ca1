"""Unlearning as a function: a model, a dataset and a method give another model, without a pipeline or a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl

from meow_lightning.api.rows import resolve_method, selected_facts, training_plan
from meow_lightning.api.training import Log, Observers, Training
from meow_lightning.config.composition import words_of
from meow_lightning.config.methods import check_aggregate
from meow_lightning.config.recipes import RECIPE, method_recipe
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.configured import refusals_of
from meow_lightning.memo.measure import Measure
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.types import InvertedFact, Method


def unlearn(  # noqa: PLR0913 - each is an option of a training
    model: LanguageModel,
    dataset: Dataset,
    *,
    method: str | Method = "meow",
    lr: float | None = None,
    epochs: int | None = None,
    global_batch_size: int | None = None,
    inverted: Sequence[InvertedFact] | None = None,
    measure: str | Measure = "clean",
    seed: int = 0,
    options: Sequence[str] = (),
    log: Log | None = None,
    callbacks: Sequence[pl.Callback] = (),
    output_dir: str | Path | None = None,
) -> LanguageModel:
    """Train a copy of a model with an unlearning method, in this process; the given model stays as it is.

    The result has the weights that the pipeline's stage ``unlearn`` computes with the same settings. Its recipe is that
    of the method's file in ``conf/method`` for a user's own model, with the optimizer of ``conf/optim/published.yaml``.

    Args:
        model: The model to start from, on the device to train on; its ``precision`` is that of the training.
        dataset: The facts to forget and to keep.
        method: Name of a file in ``conf/method``, or a method such as ``meow.methods.NPO(beta=0.1)``.
        lr: Peak learning rate, above 0; ``None`` for the method's.
        epochs: Passes over the method's first stream, from 0; ``None`` for the method's.
        global_batch_size: Maximum rows of the first stream per optimizer step, from 1; ``None`` for the method's.
        inverted: Inverted facts to select from, for methods that train on them; ``None`` to have rules write them.
        measure: Measure by which inverted facts are selected, as in :func:`meow_lightning.memo.score`.
        seed: Seed of all random choices, from 0.
        options: Further words of the command line, from ``optim``, ``trainer``, ``callbacks``, ``model.lora``,
            ``method.lora``, ``method.select`` and ``method.refusals``, such as ``model.lora.rank=16``.
        log: Called with every logged point of the training: ``step``, ``epoch``, ``loss`` and its parts, ``lr``.
        callbacks: Further callbacks of the Lightning trainer.
        output_dir: Folder of the training's checkpoints, from which an interrupted call resumes; ``None`` to keep none.

    Returns:
        The trained model in evaluation mode, on the same device.

    Raises:
        UserError: An option is invalid, a stream has no rows, or training diverged.
    """
    values = {"lr": lr, "epochs": epochs, "global_batch_size": global_batch_size}
    words = [*words_of("optim", values), f"seed={seed}", *options]
    built, chosen = resolve_method(method, dataset, words)
    if not built.streams:
        return model.duplicate()
    check_aggregate(chosen.optim.aggregate, built, name=type(built).__name__)
    recipe = {**chosen.optim.plain(), **{name: method_recipe(chosen, name)[0] for name in RECIPE}}
    training, select = Training(model, chosen, chosen.adapters), chosen.method.select
    facts = selected_facts(model, dataset, built, inverted=inverted, measure=measure, select=select, seed=seed)
    shape = {"seed": seed, **{name: recipe[name] for name in ("global_batch_size", "batch_tokens", "epochs")}}
    plan = training_plan(
        training.network, model, dataset, built, inverted=facts, shape=shape,
        eval_batch_size=chosen.trainer.eval_batch_size, refusals=refusals_of(chosen),
    )  # fmt: skip
    training.initialise(dataset)
    training.prepare(built, plan)
    return training.run(built, plan, recipe, Observers(log=log, callbacks=callbacks, output_dir=output_dir))
