"""What several stages do the same way: build the dataset, load a model with its codec, train."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from meow_lightning.config import build
from meow_lightning.data.limited import Limited
from meow_lightning.data.rows import fingerprint
from meow_lightning.durable import plain_lines
from meow_lightning.parallel import barrier, bundles, mine, rank, world
from meow_lightning.stages.precision import lightning_precision, reproducible, trained_dtype
from meow_lightning.stages.work import Work, read_lines, write_lines
from meow_lightning.store import MANIFEST, write_json
from meow_lightning.types import Dataset, Fact, UserError

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from transformers import PreTrainedModel

    from meow_lightning.data.plan import Plan
    from meow_lightning.data.prompts import Codec
    from meow_lightning.memo.room import Room
    from meow_lightning.module import Optim, TrainingModule

Numbered = tuple[int, Any]  # a row's number and the row, a dataclass
TRAINED_ON = "trained_on.json"  # the machine behind a trained model; in no key
SAME = "same.json"  # the mark of an unlearned model that is the one of the round before


def dataset(work: Work) -> Dataset:
    """The dataset the cell names, cut short where the cell says so."""
    whole = build(work.inputs["dataset"], allow=work.inputs["allow"])
    found: Dataset = whole if work.inputs["limit"] is None else Limited(dataset=whole, limit=work.inputs["limit"])
    unchanged(f"dataset={found.name}", fingerprint(found), work.inputs["content"])
    return found


def unchanged(what: str, now: Any, then: Any) -> None:
    """Nothing, when what a stage reads is what the plan has read: results lie under the plan's digests.

    Raises:
        UserError: Somebody changed it in between.
    """
    if now != then:
        raise UserError(f"{what} was changed while the run was on; run again, and what is still right is found")


def facts(work: Work, splits: Sequence[str]) -> list[Fact]:
    """The facts of some splits, one after the other."""
    source = dataset(work)
    return [fact for split in splits for fact in source.facts(split)]


def former(work: Work) -> dict[str, list[str]]:
    """The inverted facts of the round before, by fact in their order; none in the first round."""
    found: dict[str, list[str]] = {}
    for row in read_lines(work.needs["former"] / "inverted.jsonl") if "former" in work.needs else ():
        found.setdefault(row["fact"], []).append(row["answer"])
    return found


def load(work: Work, folder: Path) -> tuple[PreTrainedModel, Codec]:
    """A stored model and its codec, as the settings' ``model`` part says, on the CPU."""
    return _load(work, folder, dtype=work.settings["model"]["dtype"])


def frozen(work: Work, folder: Path) -> PreTrainedModel:
    """A stored model that stands beside one in training and rounds no more coarsely than that one does."""
    dtype = "float64" if reproducible(work) else work.settings["model"]["dtype"]
    return _load(work, folder, dtype=dtype)[0].eval().requires_grad_(False)


def learner(work: Work, folder: Path) -> tuple[PreTrainedModel, Codec]:
    """A stored model about to be trained, in the precision its weights are trained in, with its codec."""
    from meow_lightning.models.lora import with_lora

    wish = work.settings["model"]
    model, its_codec = _load(work, folder, dtype=trained_dtype(work))
    if wish["lora"] is not None:
        model = with_lora(model, **wish["lora"], dropout=0.0, seed=work.settings["seed"])  # type: ignore[assignment]
    return model, its_codec


def _load(work: Work, folder: Path, *, dtype: str) -> tuple[PreTrainedModel, Codec]:
    from meow_lightning.models.load import load_model

    model = load_model(folder, dtype=dtype, attention=work.settings["model"]["attention"])
    return model, codec(work, folder, model)


def codec(work: Work, folder: Path, model: PreTrainedModel) -> Codec:
    """The codec of a tokenizer folder under the cell's prompt."""
    from meow_lightning.models.load import load_codec

    return load_codec(folder, prompt=work.settings["model"]["prompt"], model=model)


def evaluator(work: Work) -> tuple[PreTrainedModel, Codec]:
    """The model under ``needs["model"]`` in evaluation mode on this process's device, and its codec."""
    from meow_lightning.parallel import device

    model, its_codec = load(work, work.needs["model"] / "model")
    return model.eval().to(device(work.runtime.accelerator)), its_codec  # type: ignore[arg-type, return-value]


def train(work: Work, module: TrainingModule, *, pad_id: int, callbacks: Sequence[pl.Callback]) -> PreTrainedModel:
    """The module's model, trained to the end of its plan, going on where a killed run was.

    Where it was sharded it is a plain one on the CPU, with weights in the first process only.
    """
    from meow_lightning.callbacks.speed import Advance
    from meow_lightning.models.load import without_dropout
    from meow_lightning.models.lora import enable_checkpointing
    from meow_lightning.training import Machine, checkpoint_step, fit, trained_on

    resume = work.folder / "resume"
    start = checkpoint_step(resume / "last.ckpt")
    if rank() == 0:
        cut_curve(work, start)
    if module.plan.total_steps:
        runtime = work.runtime
        without_dropout(module.model)
        if runtime.checkpointing:
            enable_checkpointing(module.model)
        machine = Machine(
            accelerator=runtime.accelerator, devices=runtime.devices, nodes=runtime.nodes, strategy=runtime.strategy,
            precision=lightning_precision(work), micro_batch=runtime.micro_batch, micro_tokens=runtime.micro_tokens,
            checkpoint_seconds=runtime.checkpoint_seconds,
        )  # fmt: skip
        if rank() == 0:
            write_json(work.folder / TRAINED_ON, trained_on(machine))
        watchers = [Advance(progress=work.progress), *callbacks]
        fit(module, folder=resume, machine=machine, pad_id=pad_id, callbacks=watchers, write=work.log)
    return module.trained(keep=rank() == 0)  # type: ignore[return-value]


def cut_curve(work: Work, start: int) -> None:
    """Take away the points that a resumed training will log again: those after its checkpoint; without one, all."""
    curve = work.folder / "metrics.jsonl"
    points, lost = plain_lines(curve)
    if start and lost:
        work.note(f"{lost} points of the training's curve were damaged on the disk and are lost; no number is")
    write_lines(curve, [point for point in points if start and point.get("step", start + 1) <= start])


class Make(Protocol):
    """Makes some rows; ``tell`` is called with how many units of them are done."""

    def __call__(self, numbers: Sequence[int], tell: Callable[[int], None]) -> Iterable[Numbered]:
        """(number, row) of each of the numbers, in any order."""
        ...


def in_chunks(
    work: Work, groups: Sequence[Sequence[int]], *, sizes: Sequence[int], least: int, unit: str, name: str, make: Make
) -> None:
    """Write rows 0, 1, … to the file ``name``, each process its share, going on after a kill.

    A chunk is done whole or not at all: rows computed beside other rows differ in the last bits, and a resumed run must
    batch as an undisturbed one does.

    Args:
        work: The stage's task.
        groups: Numbers of rows; what one holds is made together, by one process.
        sizes: By row, its size in ``unit``.
        least: Units of a chunk: what a killed run may lose, at most, but for the size of a group.
        unit: What is counted in the progress.
        name: File within the stage's folder.
        make: Makes the rows of a chunk.
    """
    parts = work.parts(index="number")
    barrier(work.runtime.accelerator)
    share, total = mine(groups), sum(sizes)
    ours = max(1, sum(sizes[number] for group in share for number in group))
    done = 0
    for numbers in bundles(share, size=sizes.__getitem__, least=least):

        def tell(units: int, before: int = done) -> None:
            work.progress(round((before + units) / ours * total), total, unit)  # the others are as far, by and large

        lacking = not all(number in parts.done for number in numbers)
        if lacking:
            tell(0)  # the clock of whoever watches starts behind what was found
            parts.add({"number": number, **asdict(row)} for number, row in make(numbers, tell))
        done += sum(sizes[number] for number in numbers)
        if lacking:
            tell(0, done)
    barrier(work.runtime.accelerator)
    if rank() == 0 and len(parts.merge(work.folder / name)) != len(sizes):
        raise RuntimeError(f"rows of {name} were lost on the disk while it was made; run again to make them anew")


def room(work: Work, model: PreTrainedModel, *, tokens: int, generated: int, shared: bool) -> Room:
    """How many prompts this process continues side by side: what the run says, or what memory allows.

    Args:
        work: The stage's task; it is told when memory runs out all the same.
        model: On its device.
        tokens: Tokens of the longest prompt.
        generated: Most new tokens of a prompt.
        shared: Whether many prompts begin alike.
    """
    import torch

    from meow_lightning.asking import slots_here
    from meow_lightning.machine import free_memory
    from meow_lightning.memo.room import Room

    if work.runtime.slots is not None:
        return Room(work.runtime.slots, note=work.note)
    gpu = model.device.type == "cuda"
    slots = slots_here(
        model.config.get_text_config().to_dict(), parameters=model.num_parameters(), weight_bytes=model.dtype.itemsize,
        tokens=tokens, generated=generated, shared=shared, gpu=gpu,
        free=torch.cuda.mem_get_info(model.device)[0] if gpu else free_memory() // world(),
    )  # fmt: skip
    return Room(slots, note=work.note)


def save(
    work: Work, model: PreTrainedModel, its_codec: Codec, *, finish: Callable[[PreTrainedModel], None] | None = None
) -> None:
    """Write the trained model to ``model/`` once, however many processes there are: adapters merged, in its dtype.

    Args:
        work: The stage's task.
        model: The trained model.
        its_codec: Its tokenizer and end tokens.
        finish: Changes the model once more.
    """
    from meow_lightning.models.load import dtype_of, save_model
    from meow_lightning.models.lora import merged
    from meow_lightning.models.whole import check_finite

    if rank() == 0:
        wish = work.settings["model"]
        if wish["lora"] is not None:
            model = merged(model)
        if finish is not None:
            finish(model)
        model = model.to(dtype_of(wish["dtype"]))  # type: ignore[arg-type]
        check_finite(
            model,
            cause=f"training diverged: {{count}} of the {work.label} model holds NaN or infinite numbers after the "
            "last step, so nothing can be measured of it; a lower learning rate (optim.lr, of a model fine-tuned here "
            "model.finetune.lr) or fewer epochs may help",
        )
        save_model(model, its_codec.tokenizer, work.folder / "model", end_ids=its_codec.end_ids)
    barrier(work.runtime.accelerator)


def carry(work: Work) -> None:
    """Take over the model of the round before, with all that was written of its making, and say so in a mark."""
    before = work.needs["before"]
    if rank() == 0:
        for path in sorted(each for each in before.rglob("*") if each.is_file() and each.name not in (MANIFEST, SAME)):
            place = work.folder / path.relative_to(before)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            try:
                place.hardlink_to(path)
            except OSError:  # another disk, one that knows no links, or somebody else's file
                shutil.copy2(path, place)
        write_json(work.folder / SAME, {"as": before.name})
    barrier(work.runtime.accelerator)


def carried(work: Work, names: Sequence[str]) -> bool:
    """Whether the model to be asked is that of the round before; then the files that were made of it are copied."""
    if "before" not in work.needs or not (work.needs["model"] / SAME).exists():
        return False
    if rank() == 0:
        for name in names:
            shutil.copy2(work.needs["before"] / name, work.folder / name)
    barrier(work.runtime.accelerator)
    return True


def optim(work: Work, plan: Plan) -> Optim:
    """The optimizer settings within a task's recipe; a warm-up of one epoch takes its steps from the plan."""
    from meow_lightning.module import GRID, Optim

    recipe = work.settings["recipe"]

    warmup = max(1, plan.steps_per_epoch) if recipe["warmup"] == "epoch" else recipe["warmup"]
    return Optim(
        kind=recipe.get("kind", "adamw"), lr=recipe["lr"], betas=(recipe["betas"][0], recipe["betas"][1]),
        eps=recipe["eps"], clip=recipe["clip"],
        weight_decay=recipe["weight_decay"], warmup=warmup, schedule=recipe["schedule"],
        grid=GRID if reproducible(work) else 0.0,
    )  # fmt: skip
