"""Unlearning as a function: a model, a dataset and a method give another model, without a pipeline or a store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import PreTrainedModel

from meow_lightning.api.rows import resolve_method, selected_facts, training_plan
from meow_lightning.config.composition import words_of
from meow_lightning.config.precision import Precision, precision_of
from meow_lightning.config.recipes import method_recipe
from meow_lightning.data.batch_plan import BatchPlan
from meow_lightning.errors import UserError
from meow_lightning.memo.measure import Measure
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.completeness import check_finite
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.models.load import DTYPES, without_dropout
from meow_lightning.models.lora import WithoutAdapters, enable_checkpointing, merge_adapters, with_lora
from meow_lightning.training.fit import TrainerSettings, fit
from meow_lightning.training.module import GRID, Optim, TrainingModule
from meow_lightning.types import Dataset, InvertedFact, Method

Log = Callable[[dict[str, float]], None]


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
        options: Further words of the command line, from the groups ``optim``, ``trainer``, ``callbacks``,
            ``model.lora`` and ``method.select``, such as ``optim.weight_decay=0``, ``trainer.micro_batch_size=4`` or
            ``model.lora.rank=16``.
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
    built, chosen = resolve_method(method, words)
    _check(chosen)
    if not built.streams:
        return LanguageModel(model.copy(dtype=str(model.model.dtype).removeprefix("torch.")).to(model.device),  # type: ignore[arg-type]
                             model.encoder, precision=model.precision)  # fmt: skip
    lora = None if chosen["model"]["lora"]["rank"] is None else chosen["model"]["lora"]
    precision = precision_of(model.precision, adapters=lora is not None)
    network: torch.nn.Module = model.copy(dtype=precision.trained)
    if lora is not None:
        network = with_lora(network, **lora, dropout=0.0, seed=seed)  # type: ignore[arg-type]
    network.to(model.device)
    built.prepare(network, seed)  # type: ignore[arg-type]
    plan = _plan(network, model, dataset, built, chosen, inverted=inverted, measure=measure)
    network.train()
    module = TrainingModule(
        model=network, method=built, plan=plan, optim=_optim(chosen, plan, precision),
        log_every=chosen["callbacks"]["log_every"], reference=_reference(network, model, built, precision, lora),
    )  # fmt: skip
    if plan.total_steps:
        _fit(module, model, chosen, precision, log=log, callbacks=callbacks, output_dir=output_dir)
    return _finished(module.model, model, built, precision, adapters=lora is not None)


def _check(options: Mapping[str, Any]) -> None:
    """Reject options that take several processes or other models.

    Raises:
        UserError: There is one.
    """
    for option, given, allowed in (
        ("trainer.devices", options["trainer"]["devices"], 1),
        ("optim.checkpoint", options["optim"]["checkpoint"], "last"),
    ):
        if given != allowed:
            raise UserError(f"{option}={given} takes the pipeline: use meow.run, or set {option}={allowed}")


def _plan(
    network: torch.nn.Module, start: LanguageModel, dataset: Dataset, method: Method, options: Mapping[str, Any], *,
    inverted: Sequence[InvertedFact] | None, measure: str | Measure,
) -> BatchPlan:  # fmt: skip
    seed = options["seed"]
    facts = selected_facts(
        start, dataset, method, inverted=inverted, measure=measure, select=options["method"].get("select"), seed=seed
    )
    network.eval()
    return training_plan(
        network, start, dataset, method, inverted=facts,
        shape={
            "global_batch_size": method_recipe(options, "global_batch_size", options["model"]["name"])[0],
            "epochs": method_recipe(options, "epochs", options["model"]["name"])[0],
            "batch_tokens": options["optim"]["batch_tokens"], "seed": seed,
        },
        eval_batch_size=options["trainer"]["eval_batch_size"],
    )  # fmt: skip


def _optim(options: Mapping[str, Any], plan: BatchPlan, precision: Precision) -> Optim:
    optim = options["optim"]
    return Optim(
        optimizer=optim["optimizer"], lr=method_recipe(options, "lr", options["model"]["name"])[0],
        betas=(optim["betas"][0], optim["betas"][1]), eps=optim["eps"], weight_decay=optim["weight_decay"],
        max_grad_norm=optim["max_grad_norm"],
        warmup=max(1, plan.steps_per_epoch) if optim["warmup"] == "epoch" else optim["warmup"],
        schedule=optim["schedule"], grid=GRID if precision.reproducible else 0.0,
    )  # fmt: skip


def _reference(
    network: torch.nn.Module, start: LanguageModel, method: Method, precision: Precision, lora: object
) -> torch.nn.Module | None:
    """Provide the frozen start model if the method needs it."""
    if method.reference not in ("model", "both"):
        return None
    return WithoutAdapters(network) if lora is not None else start.copy(dtype=precision.compute).requires_grad_(False)


def _fit(
    module: TrainingModule, start: LanguageModel, options: Mapping[str, Any], precision: Precision, *,
    log: Log | None, callbacks: Sequence[pl.Callback], output_dir: str | Path | None,
) -> None:  # fmt: skip
    trainer = options["trainer"]
    without_dropout(module.model)
    if trainer["gradient_checkpointing"]:
        enable_checkpointing(module.model)
    settings = TrainerSettings(
        accelerator="gpu" if start.device.type == "cuda" else "cpu", devices=1, nodes=1, strategy="auto",
        precision=precision.lightning, micro_batch_size=trainer["micro_batch_size"],
        micro_batch_tokens=trainer["micro_batch_tokens"],
        checkpoint_seconds=options["callbacks"]["checkpoint_seconds"],
    )  # fmt: skip
    with _folder(output_dir) as folder:
        fit(
            module, folder=folder, machine=settings, pad_id=start.encoder.pad_id, callbacks=callbacks,
            write=log or (lambda point: None),
        )  # fmt: skip


@contextlib.contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    """Provide the folder of checkpoints: the given one, or one that is removed afterwards."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="meow-") as made:
            yield Path(made)
        return
    Path(given).mkdir(parents=True, exist_ok=True)
    yield Path(given)


def _finished(
    trained: torch.nn.Module, start: LanguageModel, method: Method, precision: Precision, *, adapters: bool
) -> LanguageModel:
    """Turn the trained network into a model like the one it started from: merged, finalized, in its saved format.

    Raises:
        UserError: Some weights are not finite.
    """
    network: PreTrainedModel = merge_adapters(trained) if adapters else trained  # type: ignore[assignment]
    network.cpu()  # type: ignore[call-arg]
    if type(method).finalize is not BaseMethod.finalize:
        method.finalize(network, {name: weight.cpu() for name, weight in start.model.state_dict().items()})
    if precision.trained == "float64":  # its layers were replaced
        weights = network.state_dict()
        network = start.copy(dtype=precision.weights)
        network.load_state_dict(weights)
    else:
        network = network.to(DTYPES[precision.weights])  # type: ignore[arg-type]
    check_finite(
        network,
        cause="training diverged: NaN or infinite values in {count} of the trained model; a lower learning rate (lr) "
        "or fewer epochs may help",
    )
    network.eval().requires_grad_(True).to(start.device)  # type: ignore[arg-type]
    return LanguageModel(network, start.encoder, precision=start.precision)
