"""Train a model with resume, and save it; shared by the stages that train: ``finetune``, ``unlearn``, ``attack``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meow_lightning.data.examples import Example
from meow_lightning.distributed import barrier, rank
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.loading import load_stored
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.stages.results.model import TRAINED_ON, model_folder
from meow_lightning.store.durable import plain_lines, write_json
from meow_lightning.store.jsonl import write_lines
from meow_lightning.tracking.curve import CURVE
from meow_lightning.types import Fact

if TYPE_CHECKING:
    import pytorch_lightning as pl
    import torch
    from transformers import PreTrainedModel

    from meow_lightning.data.batch_plan import BatchPlan
    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.training.module import Optim, TrainingModule

OOM_HINT = (
    "lower trainer.micro_batch_size (or trainer.micro_batch_tokens, if it is set) or set "
    "trainer.gradient_checkpointing=true"
)
"""What helps a training that runs out of GPU memory."""


def with_phrasings(examples: Iterable[Example]) -> list[Example]:
    """Return the examples, then every further phrasing of them as a fact, for estimates of a training on them."""
    rows = list(examples)
    return [*rows, *(Fact(one.id, *phrasing) for one in rows for phrasing in one.phrasings)]


def load_frozen(work: StageContext, folder: Path) -> torch.nn.Module:
    """Load a frozen stored model as it answers, in the precision that the trained model computes in."""
    stored = load_stored(work, folder, dtype=training_precision(work).compute)
    return stored.inference().requires_grad_(False)


def train(
    work: StageContext, module: TrainingModule, *, pad_id: int, callbacks: Sequence[pl.Callback]
) -> PreTrainedModel:
    """Train the module's model to the end of its plan, resuming a killed run; returns the trained model.

    A sharded model is returned as a plain one on the CPU, with weights in the first process only.

    Args:
        work: The stage's context.
        module: The model with its method, plan and optimizer settings.
        pad_id: Token id of padding.
        callbacks: Callbacks besides the progress report.
    """
    from meow_lightning.models.load import without_dropout
    from meow_lightning.models.lora import enable_checkpointing
    from meow_lightning.training.callbacks.progress import ProgressReporter
    from meow_lightning.training.fit import TrainerSettings, checkpoint_step, describe_training, fit

    resume = work.folder / "resume"
    start = checkpoint_step(resume / "last.ckpt")
    if rank() == 0:
        cut_curve(work, start)
    if module.plan.total_steps:
        runtime = work.runtime
        without_dropout(module.model)
        if runtime.gradient_checkpointing:
            enable_checkpointing(module.model)
        machine = TrainerSettings(
            accelerator=runtime.accelerator, devices=runtime.devices, nodes=runtime.nodes, strategy=runtime.strategy,
            precision=training_precision(work).lightning, micro_batch_size=runtime.micro_batch_size,
            micro_batch_tokens=runtime.micro_batch_tokens, checkpoint_seconds=runtime.checkpoint_seconds,
        )  # fmt: skip
        if rank() == 0:
            write_json(work.folder / TRAINED_ON, describe_training(machine))
        observers = [ProgressReporter(progress=work.progress), *callbacks]
        fit(module, folder=resume, machine=machine, pad_id=pad_id, callbacks=observers, write=work.log)
    return module.trained(keep=rank() == 0)  # type: ignore[return-value]


def cut_curve(work: StageContext, start: int) -> None:
    """Remove the curve points that a resumed training logs again: those after its checkpoint, or all without one."""
    curve = work.folder / CURVE
    points, lost = plain_lines(curve)
    if start and lost:
        work.warn(f"{lost} points of the training curve were damaged on the disk and are lost; no metric is affected")
    write_lines(curve, [point for point in points if start and point.get("step", start + 1) <= start])


def save(
    work: StageContext,
    model: PreTrainedModel,
    codec: PromptEncoder,
    *,
    finish: Callable[[PreTrainedModel], None] | None = None,
    export: Callable[[PreTrainedModel, Path], None] | None = None,
) -> None:
    """Write the trained model to ``model/`` from the first process, with adapters merged, in its saved dtype.

    Args:
        work: The stage's context.
        model: The trained model.
        codec: Its prompt encoder.
        finish: Applied to the model before it is saved.
        export: Writes the model into a folder; default: as a plain checkpoint.

    Raises:
        UserError: Some weights are not finite.
    """
    from meow_lightning.models.completeness import check_finite
    from meow_lightning.models.load import DTYPES, save_model
    from meow_lightning.models.lora import merge_adapters

    if rank() == 0:
        if work.settings["model"]["lora"] is not None:
            model = merge_adapters(model)
        if finish is not None:
            finish(model)
        model = model.to(DTYPES[training_precision(work).weights])  # type: ignore[arg-type]
        check_finite(
            model,
            cause=f"training diverged: NaN or infinite values in {{count}} of the {work.label} model after the last "
            "step, so it cannot be evaluated; a lower learning rate (optim.lr, or model.finetune.lr for a model "
            "fine-tuned here) or fewer epochs may help",
        )
        save_model(model, codec.tokenizer, model_folder(work.folder), end_ids=codec.end_ids, export=export)
    barrier(work.runtime.accelerator)


def optim(work: StageContext, plan: BatchPlan) -> Optim:
    """Build the optimizer settings from the recipe; a warm-up of one epoch takes its steps from the plan."""
    from meow_lightning.training.aggregate import Aggregate
    from meow_lightning.training.module import GRID, Optim
    from meow_lightning.training.sam import Sam

    recipe = work.settings["recipe"]

    warmup = max(1, plan.steps_per_epoch) if recipe["warmup"] == "epoch" else recipe["warmup"]
    return Optim(
        optimizer=recipe.get("optimizer", "adamw"), lr=recipe["lr"], betas=(recipe["betas"][0], recipe["betas"][1]),
        eps=recipe["eps"], max_grad_norm=recipe["max_grad_norm"],
        weight_decay=recipe["weight_decay"], warmup=warmup, schedule=recipe["schedule"],
        grid=GRID if training_precision(work).reproducible else 0.0, sam=Sam.of(recipe),
        aggregate=Aggregate.of(recipe),
    )  # fmt: skip
