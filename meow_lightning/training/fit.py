"""A training run under Lightning, resumed from its checkpoint if there is one."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy

from meow_lightning.distributed import world_size
from meow_lightning.errors import UserError
from meow_lightning.generation.capabilities import batch_length_limit
from meow_lightning.training.callbacks.checkpoint import TimedCheckpoint
from meow_lightning.training.datamodule import PlannedData
from meow_lightning.training.logger import CallableLogger
from meow_lightning.training.module import TrainingModule


def quiet() -> None:
    """Silence Lightning's startup messages that users cannot act on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*srun.*", ".*does not have many workers.*", ".*LeafSpec.*", ".*resumable.*", ".*FSDP2-wrapped.*"):
        warnings.filterwarnings("ignore", message)


class CheckpointError(Exception):
    """An unusable training checkpoint: damaged, of another program, or with more than tensors and plain values."""


# Keys of a checkpoint that Lightning needs to resume.
CHECKPOINT_KEYS = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"}


def checkpoint_step(path: Path) -> int:
    """Read the step of a training checkpoint without its weights; 0 if there is none.

    Only tensors and plain values are unpickled: write access to a shared store must not allow code execution.

    Raises:
        CheckpointError: The file is not such a checkpoint.
    """
    if not path.exists():
        return 0
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        missing = CHECKPOINT_KEYS - checkpoint.keys()
        step = int(checkpoint["global_step"])
    except pickle.UnpicklingError as error:
        raise CheckpointError("it contains something other than tensors and plain values") from error
    except Exception as error:  # unpickling arbitrary bytes can raise anything
        raise CheckpointError((str(error).splitlines() or [type(error).__name__])[0]) from error
    if missing:
        raise CheckpointError(f"it is missing {', '.join(sorted(missing))}")
    return step


def check_checkpoint(path: Path) -> None:
    """Check that a training checkpoint is intact, by its internal checksums, and safe to load; reads all of it.

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
    """Where and how a training runs; only ``precision`` affects the result.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Number of processes, one device each; the caller has started them all.
        nodes: Number of machines, with equally many processes each.
        strategy: ``ddp``, all weights in every process, or ``fsdp``, sharded weights.
        precision: Lightning precision such as ``32-true`` or ``bf16-true``.
        micro_batch_size: Rows per pass and stream.
        micro_batch_tokens: Padded tokens per pass and stream instead of rows; ``None`` to count rows.
        checkpoint_seconds: Seconds between checkpoints.
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
    """Describe the hardware and batch splitting of a training, for comparing numbers.

    Except for ``precision=64-true`` with weights on a grid, a different machine, number of threads or processes, or
    pass size rounds differently, which training amplifies.
    """
    gpu = torch.cuda.is_available() and machine.accelerator != "cpu"
    return {
        "device": torch.cuda.get_device_name() if gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(), "processes": machine.devices, "micro_batch_size": machine.micro_batch_size,
        "micro_batch_tokens": machine.micro_batch_tokens, "precision": machine.precision, "torch": torch.__version__,
    }  # fmt: skip


def cluster_environment() -> ClusterEnvironment:
    """Provide Lightning with our own process layout; in a SLURM job it would assume SLURM's tasks."""
    return TorchElasticEnvironment() if world_size() > 1 else LightningEnvironment()


def _strategy_and_precision(machine: TrainerSettings) -> tuple[str | Strategy, str]:
    """Return Lightning's strategy and precision; sharded models have their dtype already: ``32-true`` casts nothing."""
    if machine.devices == 1:
        return "auto", machine.precision
    if machine.strategy != "fsdp":
        return machine.strategy, machine.precision
    # Lightning's own "fsdp" is the first version, which requires a GPU.
    strategy = ModelParallelStrategy(
        data_parallel_size=machine.devices, tensor_parallel_size=1, save_distributed_checkpoint=False
    )
    return strategy, "32-true" if machine.precision.endswith("-true") else machine.precision


def check_lengths(module: TrainingModule) -> None:
    """Reject rows on both sides of a change in rotary embeddings, where batching would affect results.

    Raises:
        UserError: There are such rows.
    """
    border = batch_length_limit(module.model)
    if border is None:
        return
    streams = module.plan.streams.values()
    lengths = {len(row.ids) for stream in streams for row in stream.every}
    if min(lengths) <= border < max(lengths):
        raise UserError(
            f"rows have {min(lengths)} to {max(lengths)} tokens, and beyond {border} this model's rotary embeddings "
            "(longrope) change for all rows of a pass, so results would depend on trainer.micro_batch_size; drop "
            f"rows of more than {border} tokens"
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
    """Train a module to the end of its plan, resuming from ``folder/last.ckpt`` if it exists.

    Args:
        module: The module to train.
        folder: Folder of checkpoints; the caller removes it when the stage is finished.
        machine: Where and how to train.
        pad_id: Token id of padding.
        callbacks: Additional callbacks.
        write: Receives each logged point.

    Raises:
        UserError: :func:`check_lengths` rejects the rows.
    """
    quiet()
    check_lengths(module)
    checkpoint = folder / "last.ckpt"
    start = checkpoint_step(checkpoint)
    # Last, so that logs of a step are on disk before the checkpoint after which it is not repeated.
    all_callbacks = [*callbacks, TimedCheckpoint(path=checkpoint, seconds=machine.checkpoint_seconds)]
    strategy, precision = _strategy_and_precision(machine)
    trainer = pl.Trainer(
        accelerator=machine.accelerator, devices=machine.devices // machine.nodes, num_nodes=machine.nodes,
        precision=precision, plugins=[cluster_environment()],  # type: ignore[arg-type]
        strategy=strategy, max_steps=module.plan.total_steps, max_epochs=-1,
        logger=CallableLogger(write=write), callbacks=all_callbacks, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, default_root_dir=folder,
    )  # fmt: skip
    # Token ids need no conversion, and reference log-probabilities must not be rounded to the weights' precision.
    trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]
    data = PlannedData(
        plan=module.plan, phase=module.method.phase, start=start, micro_batch_size=machine.micro_batch_size,
        micro_batch_tokens=machine.micro_batch_tokens, pad_id=pad_id,
    )  # fmt: skip
    # Tensors and plain values only, as in `checkpoint_step`.
    trainer.fit(module, datamodule=data, ckpt_path=str(checkpoint) if start else None, weights_only=True)
