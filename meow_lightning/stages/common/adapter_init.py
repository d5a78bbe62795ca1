"""Initial values of the adapters that a stage trains, as ``model.lora.init`` chooses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meow_lightning.config.model_options import INIT_STREAMS
from meow_lightning.data.encoding import encode, training_segments
from meow_lightning.distributed import barrier, rank
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.loading import load_dataset
from meow_lightning.stages.common.precision import training_precision
from meow_lightning.store.durable import checked_line, checked_lines, replace_atomically
from meow_lightning.types import Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from meow_lightning.data.prompting import PromptEncoder

KEPT = "adapter-rows.json"


def initialise(work: StageContext, model: PreTrainedModel, codec: PromptEncoder) -> None:
    """Give the adapters their initial values; nothing is done without adapters, or for default ones.

    A resumed training calls it again, with the start model as it is stored, so that the values are those of before; its
    checkpoint then restores adapters and residual weights alike. The importance of rows, which takes a backward pass
    per example, is kept in the stage's folder.

    Args:
        work: The stage's context.
        model: The adapted start model on its device, not trained yet; left in evaluation mode.
        codec: Its prompt encoder.
    """
    from meow_lightning.training.adapter_init import initialise_adapters
    from meow_lightning.training.module import GRID

    lora = work.settings["model"]["lora"] or {}
    if "init" not in lora:
        return
    names = INIT_STREAMS[lora["init"]]
    dataset = load_dataset(work) if names else None
    rows = {name: encode(codec, training_segments(dataset.facts(name))) for name in names if dataset is not None}
    initialise_adapters(
        model, row_weights=_row_weights(work, model, rows, pad_id=codec.pad_id) if rows else None,
        seed=work.settings["seed"], grid=GRID if training_precision(work).reproducible else 0.0,
    )  # fmt: skip


def _row_weights(
    work: StageContext, model: PreTrainedModel, rows: Mapping[str, Sequence[Encoded]], *, pad_id: int
) -> dict[str, torch.Tensor]:
    """Read the importance of rows that an interrupted training has kept, or compute it, alike in all processes."""
    import torch

    from meow_lightning.training.adapter_init import fisher_row_weights

    path = work.folder / "resume" / KEPT
    kept = _kept(path)
    barrier(work.runtime.accelerator)
    if kept is None:
        computed = fisher_row_weights(model, rows, pad_id=pad_id)
        kept = {name: weights.tolist() for name, weights in computed.items()}
        if rank() == 0:
            path.parent.mkdir(exist_ok=True)
            side = path.with_suffix(".tmp")
            side.write_text(checked_line(kept), encoding="utf-8")
            replace_atomically(side, path)
    return {name: torch.tensor(weights, dtype=torch.float64) for name, weights in kept.items()}


def _kept(path: Path) -> dict[str, list[float]] | None:
    lines = checked_lines(path)
    return lines.rows[0] if len(lines.rows) == 1 and not lines.damaged else None
