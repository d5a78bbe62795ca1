"""What several stages do the same way: build the dataset, load a model with its codec, train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config import build
from meow_lightning.parallel import barrier, rank
from meow_lightning.stages.work import Work, read_lines, write_lines
from meow_lightning.types import Dataset, Fact

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from transformers import PreTrainedModel

    from meow_lightning.data.prompts import Codec
    from meow_lightning.module import Optim, TrainingModule

LIGHTNING_PRECISION = {"float32": "32-true", "float64": "64-true", "bfloat16": "bf16-true", "float16": "16-true"}


def dataset(work: Work) -> Dataset:
    """The dataset the cell names."""
    return build(work.inputs["dataset"], allow=work.inputs["allow"])


def facts(work: Work, splits: Sequence[str]) -> list[Fact]:
    """The facts of some splits, one after the other."""
    source = dataset(work)
    return [fact for split in splits for fact in source.facts(split)]


def load(work: Work, folder: Path) -> tuple[PreTrainedModel, Codec]:
    """A stored model and its codec, as the settings' ``model`` part says, on the CPU."""
    from meow_lightning.models.load import load_model

    model = load_model(folder, dtype=work.settings["model"]["dtype"], attention=work.settings["model"]["attention"])
    return model, codec(work, folder, model)


def codec(work: Work, folder: Path, model: PreTrainedModel) -> Codec:
    """The codec of a tokenizer folder under the cell's prompt."""
    from meow_lightning.models.load import load_codec

    prompt = work.settings["model"]["prompt"]
    return load_codec(folder, template=prompt["template"], lead=prompt["lead"], model=model)


def evaluator(work: Work) -> tuple[PreTrainedModel, Codec]:
    """The model under ``needs["model"]`` in evaluation mode on this process's device, and its codec."""
    from meow_lightning.parallel import device

    model, its_codec = load(work, work.needs["model"] / "model")
    return model.eval().to(device(work.runtime.accelerator)), its_codec  # type: ignore[arg-type, return-value]


def train(work: Work, module: TrainingModule, *, pad_id: int, callbacks: Sequence[pl.Callback]) -> None:
    """Train a module to the end of its plan and save the model, going on where a killed run was."""
    from meow_lightning.callbacks.speed import Advance
    from meow_lightning.training import Machine, checkpoint_step, fit

    resume = work.folder / "resume"
    curve = work.folder / "metrics.jsonl"
    start = checkpoint_step(resume / "last.ckpt")
    if rank() == 0:
        # Points after the checkpoint will be logged again, and without one all of them.
        write_lines(curve, [point for point in list(read_lines(curve)) if start and point["step"] <= start])
    if module.plan.total_steps:
        runtime = work.runtime
        machine = Machine(
            accelerator=runtime.accelerator, devices=runtime.devices, strategy=runtime.strategy,
            precision=LIGHTNING_PRECISION[work.settings["model"]["dtype"]], micro_batch=runtime.micro_batch,
            checkpoint_seconds=runtime.checkpoint_seconds,
        )  # fmt: skip
        watchers = [Advance(progress=work.progress), *callbacks]
        fit(module, folder=resume, machine=machine, pad_id=pad_id, callbacks=watchers, write=work.log)


def save(work: Work, model: PreTrainedModel, its_codec: Codec) -> None:
    """Write the trained model to ``model/`` once, however many processes there are."""
    from meow_lightning.models.load import save_model

    if rank() == 0:
        save_model(model, its_codec.tokenizer, work.folder / "model")
    barrier(work.runtime.accelerator)


def optim(recipe: dict[str, Any]) -> Optim:
    """The optimizer settings within a recipe."""
    from meow_lightning.module import Optim

    return Optim(
        lr=recipe["lr"], betas=(recipe["betas"][0], recipe["betas"][1]), eps=recipe["eps"], clip=recipe["clip"],
        weight_decay=recipe["weight_decay"], warmup=recipe["warmup"], schedule=recipe["schedule"],
    )  # fmt: skip
