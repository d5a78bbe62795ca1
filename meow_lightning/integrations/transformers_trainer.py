"""A trainer of transformers that trains with any of our methods, with the same loss per global batch as ours.

transformers averages a loss over each micro-batch and then over micro-batches, which weighs the tokens of short
micro-batches more. Here a micro-batch contributes sums, divided by the counts of the whole global batch, as in
:class:`meow_lightning.training.module.TrainingModule`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from meow_lightning.api.rows import resolve_method, selected_facts, training_plan
from meow_lightning.data.batch_plan import BatchPlan, counts, shard_micro_batches
from meow_lightning.data.collate import collate_streams, to_device
from meow_lightning.data.examples import Dataset
from meow_lightning.errors import UserError, invalid_option
from meow_lightning.memo.measure import Measure
from meow_lightning.methods.base import BaseMethod
from meow_lightning.models.language_model import LanguageModel
from meow_lightning.models.load import without_dropout
from meow_lightning.stages.common.stored_method import has_own_inference
from meow_lightning.training.datamodule import Phase
from meow_lightning.training.module import total_loss
from meow_lightning.training.preparation import prepare_method
from meow_lightning.types import InvertedFact, LossParts, Method


class MicroBatches(TorchDataset):
    """The micro-batches of a plan's epoch, as many per global batch as gradients are accumulated over.

    A global batch with fewer rows than others ends with blank micro-batches.

    Args:
        plan: The global batches.
        phase: The streams of an epoch.
        micro_batch_size: Rows per micro-batch and stream, from 1.
        accumulation: Micro-batches per global batch, from 1.
        pad_id: Token id of padding.

    Attributes:
        epoch: The current epoch, from 0; the trainer sets it.
    """

    def __init__(self, *, plan: BatchPlan, phase: Phase, micro_batch_size: int, accumulation: int, pad_id: int) -> None:
        self.plan, self.phase, self.pad_id = plan, phase, pad_id
        self.micro_batch_size, self.accumulation = micro_batch_size, accumulation
        self.epoch = 0

    def __len__(self) -> int:
        return self.plan.steps_per_epoch * self.accumulation

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, number = divmod(index, self.accumulation)
        rows_of_step = self.plan.step(self.epoch * self.plan.steps_per_epoch + step)
        batch = {name: rows for name, rows in rows_of_step.items() if name in self.phase(self.epoch)}
        parts = shard_micro_batches(batch, rank=0, world=1, micro=self.micro_batch_size)
        rows = parts[number] if number < len(parts) else {name: [] for name in batch}
        return {"batch": collate_streams(rows, pad_id=self.pad_id), "counts": counts(batch)}


class _EpochLoader(DataLoader):
    """A loader whose micro-batches are those of the epoch that the trainer sets."""

    dataset: MicroBatches

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch to serve."""
        self.dataset.epoch = epoch


class _MethodSteps(TrainerCallback):
    """Passes every step's loss parts to the method, and ends the training once the method is done."""

    def __init__(self, trainer: UnlearningTrainer) -> None:
        self.trainer = trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
    ) -> TrainerControl:
        """Report the step to the method."""
        method, values = self.trainer.method, self.trainer.take_loss_parts()
        method.on_step_end(values)
        control.should_training_stop = control.should_training_stop or method.done
        return control


class UnlearningTrainer(Trainer):
    """Trains a model in place with an unlearning method, with the loop, optimizer and logging of transformers.

    The arguments of transformers mean what they always do: a global batch has ``per_device_train_batch_size`` times
    ``gradient_accumulation_steps`` rows of the method's first stream, ``num_train_epochs`` counts passes over that
    stream, and ``seed`` orders the rows. The logged loss is the method's loss on the global batch. Unlike
    :func:`meow_lightning.unlearn`, transformers excludes biases and norms from weight decay.

    One process with one device trains; for more, use :func:`meow_lightning.run` with ``trainer=ddp`` or ``fsdp``.

    Args:
        model: The model, trained in place, on any device.
        dataset: The facts to forget and to keep.
        method: Name of a file in ``conf/method``, or a method such as ``meow.methods.NPO(beta=0.1)``.
        args: Arguments of the training; those of TRL's trainers are accepted, too, as far as transformers reads them.
        inverted: Inverted facts to select from, for methods that train on them; ``None`` to have rules write them.
        measure: Measure by which inverted facts are selected, as in :func:`meow_lightning.memo.score`.
        eval_batch_size: Rows per forward pass of the start model's log-probabilities, from 1.
        **options: Further arguments of transformers' ``Trainer``: ``callbacks`` and ``optimizers``.

    Raises:
        UserError: An argument would make transformers compute another loss, or a stream has no rows.
    """

    def __init__(
        self,
        model: LanguageModel,
        dataset: Dataset,
        method: str | Method,
        args: TrainingArguments,
        *,
        inverted: Sequence[InvertedFact] | None = None,
        measure: str | Measure = "clean",
        eval_batch_size: int = 8,
        **options: Any,
    ) -> None:
        _check(args)
        self.method, chosen = resolve_method(method, dataset, ())
        if not self.method.streams:
            raise UserError(f"{type(self.method).__name__} trains nothing: choose another method")
        if has_own_inference(self.method):  # type: ignore[arg-type]
            raise UserError(
                f"{type(self.method).__name__} answers through a model of its own, which this trainer cannot return; "
                "use meow.unlearn or meow.run"
            )
        self._language_model, self._parts = model, dict[str, torch.Tensor]()
        model.to(args.device)
        self._start = _start_weights(model, self.method)
        facts = selected_facts(
            model, dataset, self.method, inverted=inverted, measure=measure, select=chosen.method.select,
            seed=args.seed,
        )  # fmt: skip
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        self.plan = training_plan(
            model.model, model, dataset, self.method, inverted=facts,
            shape={
                "global_batch_size": rows, "epochs": max(1, int(-(-args.num_train_epochs // 1))), "batch_tokens": None,
                "seed": args.seed,
            },
            eval_batch_size=eval_batch_size,
        )  # fmt: skip
        prepare_method(
            self.method, model.model, rows={name: stream.rows for name, stream in self.plan.streams.items()},
            seed=args.seed, pad_id=model.encoder.pad_id, micro_batch_size=args.per_device_train_batch_size,
            micro_batch_tokens=None, may_attach=False,
        )  # fmt: skip
        self._trained = self._trained_weights() if _is_regularized(self.method) else {}
        self._reference: torch.nn.Module | None = None
        if self.method.reference in ("model", "both"):
            self._reference = model.duplicate().model.requires_grad_(False)
        without_dropout(model.model)
        super().__init__(model=model.model, args=args, processing_class=model.tokenizer, **options)
        self.add_callback(_MethodSteps(self))

    def get_train_dataloader(self) -> DataLoader:
        """Return the micro-batches of the method's plan."""
        micro_batches = MicroBatches(
            plan=self.plan, phase=self.method.phase, micro_batch_size=self.args.per_device_train_batch_size,
            accumulation=self.args.gradient_accumulation_steps, pad_id=self._language_model.encoder.pad_id,
        )  # fmt: skip
        return _EpochLoader(micro_batches, batch_size=None, shuffle=False)

    def train(self, *args: Any, **options: Any) -> Any:
        """Train, then let the method transform the trained weights.

        Raises:
            UserError: A checkpoint is given: those of transformers lack the method's state.
        """
        if args or options.get("resume_from_checkpoint"):
            raise UserError(
                "resume_from_checkpoint is not supported, since checkpoints of transformers lack the method's state; "
                "use meow.unlearn with output_dir, which resumes"
            )
        output = super().train(**options)
        if self._start is not None:
            device = self._language_model.device
            self.method.finalize(self._language_model.model.cpu(), self._start)  # type: ignore[call-arg]
            self._language_model.to(device)
        self._language_model.model.eval()
        return output

    def compute_loss(
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Compute a micro-batch's share of the global batch's loss, a scalar.

        Args:
            model: The model in training.
            inputs: ``batch``, the rows by stream, and ``counts``, the denominators of the global batch.
            return_outputs: Not supported.
            num_items_in_batch: Ignored: ``counts`` replaces it.

        Raises:
            UserError: Outputs are asked for, as transformers' own evaluation does.
        """
        if return_outputs:
            raise UserError("the evaluation of transformers has no meaning here: use meow.evaluate")
        parts: LossParts = self.method.loss(model, inputs["batch"], self._reference)
        for name, part in parts.items():
            share = part.sum.detach().double() / inputs["counts"][part.stream][part.per]
            self._parts[name] = self._parts.get(name, torch.zeros_like(share)) + share
        loss = total_loss(parts, inputs["counts"])
        term = self.method.regularizer(self._language_model.model, self._trained) if self._trained else None
        # Once per step: every micro-batch adds the same share.
        return loss if term is None else loss + term / self.args.gradient_accumulation_steps

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Accumulate the gradients of one micro-batch, without dividing by the number of micro-batches.

        Args:
            model: The model in training.
            inputs: As for :meth:`compute_loss`, on any device.
            num_items_in_batch: Ignored.

        Returns:
            The micro-batch's share of the loss, detached, a scalar.
        """
        model.train()
        device = self.args.device
        moved = {name: to_device(rows, device) for name, rows in inputs["batch"].items()}
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, {"batch": moved, "counts": inputs["counts"]})
        self.accelerator.backward(loss)
        return loss.detach()

    def _trained_weights(self) -> dict[str, torch.Tensor]:
        weights = self._language_model.model.named_parameters()
        return {name: weight.detach().clone() for name, weight in weights if weight.requires_grad}

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the number of floating-point operations is not counted."""
        return 0

    def take_loss_parts(self) -> dict[str, float]:
        """Return ``sum / count`` of the loss parts since the last call, by name."""
        values = {name: float(value) for name, value in self._parts.items()}
        self._parts.clear()
        return values


def _check(args: TrainingArguments) -> None:
    """Reject arguments under which transformers would compute another loss.

    Raises:
        UserError: There is one.
    """
    if args.world_size > 1 or args.n_gpu > 1:
        raise UserError(
            f"UnlearningTrainer runs in one process on one device, not on {max(args.world_size, args.n_gpu)}: "
            "transformers averages the loss over processes; use meow.run(['trainer=ddp', …]), or set "
            "CUDA_VISIBLE_DEVICES to one device"
        )
    if args.label_smoothing_factor:
        raise invalid_option("label_smoothing_factor", args.label_smoothing_factor, "0: the method defines the loss")
    if str(args.include_num_input_tokens_seen) not in ("no", "False"):
        raise invalid_option("include_num_input_tokens_seen", args.include_num_input_tokens_seen, "no")


def _is_regularized(method: Method) -> bool:
    return type(method).regularizer is not BaseMethod.regularizer


def _start_weights(model: LanguageModel, method: Method) -> dict[str, torch.Tensor] | None:
    """Copy the start weights to the CPU if the method needs them after training."""
    if type(method).finalize is BaseMethod.finalize:
        return None
    return {name: weight.detach().cpu().clone() for name, weight in model.model.state_dict().items()}
