"""Training in this process, shared by the functions that unlearn and fine-tune: setup, fit, and the finished model."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from transformers import PreTrainedModel

from meow_lightning.config.model_options import INIT_STREAMS
from meow_lightning.config.precision import Precision, precision_of
from meow_lightning.config.schema import RunConfig
from meow_lightning.data.batch_plan import BatchPlan
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.data.examples import Dataset
from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.completeness import check_finite
from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.models.load import DTYPES, without_dropout
from meow_lightning.models.lora import enable_checkpointing, merge_adapters, with_lora, without_adapters
from meow_lightning.stages.common.stored_method import has_own_inference
from meow_lightning.training.adapter_init import fisher_row_weights, initialise_adapters
from meow_lightning.training.aggregate import Aggregate
from meow_lightning.training.fit import TrainerSettings, fit
from meow_lightning.training.module import GRID, Optim, TrainingModule
from meow_lightning.training.preparation import prepare_method
from meow_lightning.training.sam import Sam
from meow_lightning.types import Method

Log = Callable[[dict[str, float]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observers:
    """What watches a training.

    Attributes:
        log: Called with every logged point; ``None`` for nobody.
        callbacks: Further callbacks of the Lightning trainer.
        output_dir: Folder of checkpoints; ``None`` to keep none.
    """

    log: Log | None
    callbacks: Sequence[pl.Callback]
    output_dir: str | Path | None


class Training:
    """The training of a copy of a model.

    Args:
        start: The model to start from; it stays as it is.
        options: Options of a run, of which ``optim``, ``trainer``, ``callbacks`` and ``seed`` are read.
        lora: ``rank``, ``alpha`` and perhaps ``init`` of the adapters; ``None`` to train all weights.

    Attributes:
        network: The copy, in the number format of trained weights, with adapters if there are any, on the device of
            the start model and in evaluation mode.
        precision: Number formats of the training.

    Raises:
        UserError: The options take several processes or another model.
    """

    def __init__(self, start: LanguageModel, options: RunConfig, lora: Mapping[str, Any] | None) -> None:
        _check(options)
        self.start, self.options, self.adapters = start, options, lora is not None
        self.init = "default" if lora is None else lora.get("init", "default")
        self.precision = precision_of(start.precision, adapters=self.adapters)
        options.optim.check_precision(start.precision, adapters=self.adapters)
        network: torch.nn.Module = start.copy(dtype=self.precision.trained)
        if lora is not None:
            rank, alpha = lora["rank"], lora["alpha"]
            network = with_lora(network, rank=rank, alpha=alpha, dropout=0.0, seed=options.seed).eval()  # type: ignore[arg-type]
        self.network = network.to(start.device)

    def initialise(self, dataset: Dataset) -> None:
        """Give the adapters their initial values; nothing is done without adapters, or for default ones.

        Args:
            dataset: The facts that the values may depend on.
        """
        if self.init == "default":
            return
        encoder, seed = self.start.encoder, self.options.seed
        rows = {name: encode(encoder, training_segments(dataset.facts(name))) for name in INIT_STREAMS[self.init]}
        weights = fisher_row_weights(self.network, rows, pad_id=encoder.pad_id) if rows else None
        grid = GRID if self.precision.reproducible else 0.0
        initialise_adapters(self.network, row_weights=weights, seed=seed, grid=grid)

    def prepare(self, method: Method, plan: BatchPlan) -> None:
        """Prepare a method on the network, and freeze all weights that it does not train.

        Args:
            method: The method.
            plan: The global batches.

        Raises:
            UserError: The method trains no weight, or attaches modules beside adapters.
        """
        trainer = self.options.trainer
        prepare_method(
            method, self.network, rows={name: stream.rows for name, stream in plan.streams.items()},
            seed=self.options.seed, pad_id=self.start.encoder.pad_id, micro_batch_size=trainer.micro_batch_size,
            micro_batch_tokens=trainer.micro_batch_tokens, may_attach=not self.adapters,
        )  # fmt: skip

    def run(self, method: Method, plan: BatchPlan, recipe: Mapping[str, Any], observers: Observers) -> LanguageModel:
        """Train to the end of a plan.

        Args:
            method: The method.
            plan: The global batches.
            recipe: ``lr``, ``betas``, ``eps``, ``weight_decay``, ``max_grad_norm``, ``warmup`` and ``schedule``.
            observers: What watches the training.

        Returns:
            The trained model: merged, finalized, in its saved number format.

        Raises:
            UserError: Training diverged.
        """
        self.network.train()
        module = TrainingModule(
            model=self.network, method=method, plan=plan, optim=_optim(self.options, recipe, plan, self.precision),
            log_every=self.options.callbacks.log_every, reference=self._reference(method),
        )  # fmt: skip
        if plan.total_steps:
            self._fit(module, observers)
        return self._finished(method)

    def _reference(self, method: Method) -> torch.nn.Module | None:
        """Provide the frozen start model if the method needs it."""
        if method.reference not in ("model", "both"):
            return None
        if self.adapters and self.init == "default":
            return FrozenView(self.network, without_adapters)
        return self.start.copy(dtype=self.precision.compute).requires_grad_(False)

    def _fit(self, module: TrainingModule, observers: Observers) -> None:
        trainer = self.options.trainer
        without_dropout(module.model)
        if trainer.gradient_checkpointing:
            enable_checkpointing(module.model)
        settings = TrainerSettings(
            accelerator="gpu" if self.start.device.type == "cuda" else "cpu", devices=1, nodes=1, strategy="auto",
            precision=self.precision.lightning, micro_batch_size=trainer.micro_batch_size,
            micro_batch_tokens=trainer.micro_batch_tokens,
            checkpoint_seconds=self.options.callbacks.checkpoint_seconds,
        )  # fmt: skip
        with _folder(observers.output_dir) as folder:
            fit(
                module, folder=folder, machine=settings, pad_id=self.start.encoder.pad_id,
                callbacks=observers.callbacks, write=observers.log or (lambda point: None),
            )  # fmt: skip

    def _finished(self, method: Method) -> LanguageModel:
        """Turn the trained network into a model like the one it started from.

        Raises:
            UserError: Some weights are not finite.
        """
        start, precision = self.start, self.precision
        own = has_own_inference(method)  # type: ignore[arg-type]
        network: PreTrainedModel = merge_adapters(self.network) if self.adapters else self.network  # type: ignore[assignment]
        network.cpu()  # type: ignore[call-arg]
        if type(method).finalize is not BaseMethod.finalize:
            method.finalize(network, {name: weight.cpu() for name, weight in start.model.state_dict().items()})
        if precision.trained == "float64" and not own:  # its layers were replaced
            weights = network.state_dict()
            network = start.copy(dtype=precision.weights)
            network.load_state_dict(weights)
        else:
            network = network.to(DTYPES[precision.weights])  # type: ignore[arg-type]
        check_finite(
            network,
            cause="training diverged: NaN or infinite values in {count} of the trained model; a lower learning rate "
            "(lr) or fewer epochs may help",
        )
        network.eval().requires_grad_(True).to(start.device)  # type: ignore[arg-type]
        if own:
            answering, name = method.inference(network).eval(), type(method).__name__
            return LanguageModel.of_method(name, answering, start.encoder, precision=start.precision)
        return LanguageModel(network, start.encoder, precision=start.precision)


def _check(options: RunConfig) -> None:
    """Reject options that take several processes or other models.

    Raises:
        UserError: There is one.
    """
    for option, given, allowed in (
        ("trainer.devices", options.trainer.devices, 1),
        ("optim.checkpoint", options.optim.checkpoint, "last"),
    ):
        if given != allowed:
            raise UserError(f"{option}={given} takes the pipeline: use meow.run, or set {option}={allowed}")


def _optim(options: RunConfig, recipe: Mapping[str, Any], plan: BatchPlan, precision: Precision) -> Optim:
    return Optim(
        optimizer=options.optim.optimizer, lr=recipe["lr"], betas=(recipe["betas"][0], recipe["betas"][1]),
        eps=recipe["eps"], weight_decay=recipe["weight_decay"], max_grad_norm=recipe["max_grad_norm"],
        warmup=max(1, plan.steps_per_epoch) if recipe["warmup"] == "epoch" else recipe["warmup"],
        schedule=recipe["schedule"], grid=GRID if precision.reproducible else 0.0, sam=Sam.of(recipe),
        aggregate=Aggregate.of(recipe),
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
