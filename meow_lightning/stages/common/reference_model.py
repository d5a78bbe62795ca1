"""The start model as a reference for a method: its log-probabilities of answers, or the frozen model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meow_lightning.distributed import all_gather, barrier, device, rank, shard
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.training import load_frozen
from meow_lightning.stages.results.model import model_folder
from meow_lightning.store.durable import checked_line, checked_lines, replace_atomically
from meow_lightning.types import Encoded, Method

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def reference_model(work: StageContext, method: Method, model: PreTrainedModel) -> torch.nn.Module | None:
    """Provide the frozen start model if the method needs it.

    A second copy, or with default adapters the model without them; other initial values change the frozen weights.
    """
    if method.reference not in ("model", "both"):
        return None
    lora = work.settings["model"]["lora"]
    if lora is not None and "init" not in lora:
        from meow_lightning.models.frozen_view import FrozenView
        from meow_lightning.models.lora import without_adapters

        return FrozenView(model, without_adapters)
    return load_frozen(work, model_folder(work.needs["start"]))


def add_reference_logps(
    work: StageContext, model: PreTrainedModel, rows: Sequence[Encoded], *, name: str, pad_id: int
) -> list[Encoded]:
    """Add log p(answer | prompt) under the start model to the rows; computed once.

    A resumed training reads the values from the stage's folder. Each process computes its share.

    Args:
        work: The stage's context.
        model: The start model, not trained yet.
        rows: Rows of one stream.
        name: Name of the stream.
        pad_id: Token id of padding.
    """
    path = work.folder / "resume" / f"reference-{name}.json"
    kept = _kept(path)
    barrier(work.runtime.accelerator)
    if len(kept) != len(rows):  # not computed yet, or damaged
        logps = dict(all_gather(_logps(work, model, rows, pad_id=pad_id)))
        if rank() == 0:
            path.parent.mkdir(exist_ok=True)
            side = path.with_suffix(".tmp")
            side.write_text(checked_line({"logps": [logps[index] for index in range(len(rows))]}), encoding="utf-8")
            replace_atomically(side, path)
        barrier(work.runtime.accelerator)
        kept = _kept(path)
    return [row._replace(reference=logp) for row, logp in zip(rows, kept, strict=True)]


def _kept(path: Path) -> list[float]:
    lines = checked_lines(path)
    return lines.rows[0]["logps"] if len(lines.rows) == 1 and not lines.damaged else []


def _logps(
    work: StageContext, model: PreTrainedModel, rows: Sequence[Encoded], *, pad_id: int
) -> list[tuple[int, float]]:
    from meow_lightning.training.streams import longest_first, reference_logps

    model.eval().to(device(work.runtime.accelerator))  # type: ignore[arg-type]
    indices = shard(longest_first(rows))
    return reference_logps(model, rows, indices=indices, pad_id=pad_id, batch=work.runtime.eval_batch_size)


class Weights(Mapping[str, "torch.Tensor"]):
    """The weights of a stored model by name, read lazily."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        from meow_lightning.models.pretrained_folder import shards

        self._files = [safe_open(path, framework="pt") for path in shards(folder)]
        self._files_by_name = {name: file for file in self._files for name in file.keys()}  # noqa: SIM118 - no mapping

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._files_by_name[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files_by_name)

    def __len__(self) -> int:
        return len(self._files_by_name)
