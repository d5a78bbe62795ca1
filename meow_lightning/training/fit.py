"""One training run under Lightning: builds the trainer, goes on from a checkpoint when there is one."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy

from meow_lightning.distributed import world_size
from meow_lightning.errors import UserError
from meow_lightning.generation.capabilities import border_of
from meow_lightning.training.callbacks.checkpoint import TimedCheckpoint
from meow_lightning.training.datamodule import PlannedData
from meow_lightning.training.logger import CallableLogger
from meow_lightning.training.module import TrainingModule


def quiet() -> None:
    """Silence what Lightning says at every start and no user can act on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*srun.*", ".*does not have many workers.*", ".*LeafSpec.*", ".*resumable.*", ".*FSDP2-wrapped.*"):
        warnings.filterwarnings("ignore", message)


class CheckpointError(Exception):
    """A training checkpoint that cannot be used: damaged, of another program, or more than tensors and plain values."""


# What a training is resumed from; Lightning reads all of it.
CHECKPOINT_KEYS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"}


def checkpoint_step(path: Path) -> int:
    """The step a training checkpoint was made at, 0 when there is none; its weights are not read.

    Only tensors and plain values are unpickled: whoever can write into a shared store must not run code as its readers.

    Raises:
        CheckpointError: The file is no such checkpoint.
    """
    if not path.exists():
        return 0
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        lacking = CHECKPOINT_KEYS - found.keys()
        step = int(found["global_step"])
    except pickle.UnpicklingError as error:
        raise CheckpointError("it holds something else than tensors and plain values") from error
    except Exception as error:  # bytes that are no checkpoint make an unpickler fail in any way
        raise CheckpointError((str(error).splitlines() or [type(error).__name__])[0]) from error
    if lacking:
        raise CheckpointError(f"it lacks {', '.join(sorted(lacking))}")
    return step


def check_checkpoint(path: Path) -> None:
    """Return when a training checkpoint is whole, by the checksums within it, and safe to load; reads all of it.

    Raises:
        CheckpointError: It is not.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(str(error)) from error
    if damaged is not None:
        raise CheckpointError(f"the checksum of {damaged} is wrong")
    checkpoint_step(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerSettings:
    """On what a training runs; nothing of it changes the result but ``precision``.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Processes, one device each; whoever calls has started them all.
        nodes: Machines that they are spread over evenly.
        strategy: How several processes train together: ``ddp``, each with all weights, or ``fsdp``, each with a share.
        precision: Lightning precision such as ``32-true`` or ``bf16-true``.
        micro_batch_size: Rows per pass and stream.
        micro_batch_tokens: Padded tokens per pass and stream in the place of rows; ``None`` to count rows.
        checkpoint_seconds: Time between two checkpoints.
    """

    accelerator: str
    devices: int
    nodes: int
    strategy: str
    precision: str
    micro_batch_size: int
    micro_batch_tokens: int | None
    checkpoint_seconds: float


def describe_training(machine: TrainerSettings) -> dict[str, Any]:
    """What a training ran on, for whoever compares numbers: the instructions of the CPU or the GPU, and how it was cut.

    Where ``precision`` is not ``64-true`` with weights on a grid, another machine, number of threads or processes, or
    size of a pass rounds otherwise, and training amplifies that.
    """
    gpu = torch.cuda.is_available() and machine.accelerator != "cpu"
    return {
        "device": torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(), "processes": machine.devices, "micro_batch_size": machine.micro_batch_size,
        "micro_batch_tokens": machine.micro_batch_tokens, "precision": machine.precision, "torch": torch.__version__,
    }  # fmt: skip


def cluster_environment() -> ClusterEnvironment:
    """Who started this process, said to Lightning: in a SLURM job it would take SLURM's tasks for its processes."""
    return TorchElasticEnvironment() if world_size() > 1 else LightningEnvironment()


def _together(machine: TrainerSettings) -> tuple[str | Strategy, str]:
    """Lightning's strategy and precision; what is sharded has its dtype already, and ``32-true`` casts nothing."""
    if machine.devices == 1:
        return "auto", machine.precision
    if machine.strategy != "fsdp":
        return machine.strategy, machine.precision
    # Lightning's own "fsdp" is torch's first one, which needs a GPU.
    strategy = ModelParallelStrategy(
        data_parallel_size=machine.devices, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    return strategy, "32-true" if machine.precision.endswith("-true") else machine.precision


def check_lengths(module: TrainingModule) -> None:
    """Refuse rows on both sides of where a model's rotary embeddings change: passes would decide what is trained.

    Raises:
        UserError: There are such rows.
    """
    border = border_of(module.model)
    if border is None:
        return
    streams = module.plan.streams.values()
    lengths = {len(row.ids) for stream in streams for row in (*stream.rows, *chain.from_iterable(stream.fresh))}
    if min(lengths) <= border < max(lengths):
        raise UserError(
            f"rows have {min(lengths)} to {max(lengths)} tokens, and beyond {border} this model's rotary embeddings "
            "(longrope) are others, for every row of a pass: what is trained would hang on trainer.micro_batch_size; "
            f"leave out rows of more than {border} tokens"
        )


def fit(
    module: TrainingModule,
    *,
    folder: Path,
    machine: TrainerSettings,
    pad_id: int,
    callbacks: Sequence[pl.Callback],
    write: Any,
) -> None:
    """Train a module to the end of its plan, going on from ``folder/last.ckpt`` when a killed run left one.

    Args:
        module: What to train.
        folder: Where checkpoints go; the caller removes it when the stage is done.
        machine: On what.
        pad_id: Token id of padding.
        callbacks: Further callbacks.
        write: Takes each logged point.

    Raises:
        UserError: The rows are those that :func:`check_lengths` refuses.
    """
    quiet()
    check_lengths(module)
    checkpoint = folder / "last.ckpt"
    start = checkpoint_step(checkpoint)
    # Last, so that what the others log at a step is on disk before the checkpoint that will not repeat the step.
    watchers = [*callbacks, TimedCheckpoint(path=checkpoint, seconds=machine.checkpoint_seconds)]
    strategy, precision = _together(machine)
    trainer = pl.Trainer(
        accelerator=machine.accelerator, devices=machine.devices // machine.nodes, num_nodes=machine.nodes,
        precision=precision, plugins=[cluster_environment()],  # type: ignore[arg-type]
        strategy=strategy, max_steps=module.plan.total_steps, max_epochs=-1,
        logger=CallableLogger(write=write), callbacks=watchers, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False, default_root_dir=folder,
    )  # fmt: skip
    # Token ids need no conversion, and a start model's log-probabilities must not be rounded to the weights' precision.
    trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]
    data = PlannedData(
        plan=module.plan, start=start, micro_batch_size=machine.micro_batch_size,
        micro_batch_tokens=machine.micro_batch_tokens, pad_id=pad_id,
    )  # fmt: skip
    # Tensors and plain values only, for the same reason as in `checkpoint_step`.
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if start else None, weights_only=True)
