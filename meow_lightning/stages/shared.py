"""What several stages do the same way: build the dataset, load a model with its codec, train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config import build
from meow_lightning.parallel import barrier, chunks, mine, rank
from meow_lightning.stages.work import Parts, Work, read_lines, write_lines
from meow_lightning.types import AnswerRow, Dataset, Fact, ScoredText

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from transformers import PreTrainedModel

    from meow_lightning.data.prompts import Codec
    from meow_lightning.module import Optim, TrainingModule

Numbered = tuple[int, AnswerRow | ScoredText]
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


def in_chunks(
    work: Work, total: int, *, size: int, unit: str, name: str, make: Callable[[Sequence[int]], Iterable[Numbered]]
) -> None:
    """Write rows 0 .. total - 1 to the file ``name``, each process its share, going on after a kill.

    A chunk is done whole or not at all: rows computed beside other rows differ in the last bits, and a resumed run must
    batch as an undisturbed one does.

    Args:
        work: The stage's task.
        total: Rows in all.
        size: Rows made together: what a killed run may lose, at most.
        unit: What a row is called in the progress.
        name: File within the stage's folder.
        make: Gives (number, row) for each of some numbers, in any order.
    """
    parts = Parts(work.folder, index="number")
    barrier(work.runtime.accelerator)
    done = 0
    for numbers in chunks(mine(range(total)), size):
        done += len(numbers)
        if not all(number in parts.done for number in numbers):
            parts.add({"number": number, **asdict(row)} for number, row in make(numbers))
        work.progress(min(done * work.runtime.devices, total), total, unit)
    barrier(work.runtime.accelerator)
    if rank() == 0:
        parts.merge(work.folder / name)


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
