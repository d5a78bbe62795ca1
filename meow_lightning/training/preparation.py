"""Preparation of a method before its first step: its look at the start model and the data, and what it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from meow_lightning.data.batch_plan import shard_micro_batches, shard_token_batches
from meow_lightning.data.collate import collate, to_device
from meow_lightning.errors import UserError
from meow_lightning.methods.base import PrepareContext
from meow_lightning.types import Encoded, Method, TokenBatch


def prepare_method(
    method: Method, model: torch.nn.Module, *, rows: Mapping[str, Sequence[Encoded]], seed: int, pad_id: int,
    micro_batch_size: int, micro_batch_tokens: int | None, may_attach: bool,
) -> None:  # fmt: skip
    """Prepare a method, then freeze all weights that it does not train.

    Args:
        method: The method.
        model: The start model on its device; left in evaluation mode.
        rows: All rows by stream.
        seed: Seed of all random draws.
        pad_id: Token id of padding.
        micro_batch_size: Rows per micro-batch.
        micro_batch_tokens: Padded tokens per micro-batch instead of ``micro_batch_size``; ``None`` to count rows.
        may_attach: Whether the method may attach modules to the model. Merging adapters would lose them, and shards are
            gathered only in the model's own forward pass.

    Raises:
        UserError: The method trains no weight of this model, or attaches modules where it may not.
    """
    device = next(model.parameters()).device

    def batches(stream: str) -> Iterator[TokenBatch]:
        alone = {stream: rows[stream]}
        parts = (
            shard_micro_batches(alone, rank=0, world=1, micro=micro_batch_size) if micro_batch_tokens is None
            else shard_token_batches(alone, rank=0, world=1, tokens=micro_batch_tokens, paired=())
        )  # fmt: skip
        for part in parts:
            yield to_device(collate(part[stream], pad_id=pad_id), device)

    model.eval()
    modules = set(model.modules())
    method.prepare(PrepareContext(model=model, batches=batches, seed=seed, device=device))
    if not may_attach and set(model.modules()) != modules:
        raise UserError(
            f"{type(method).__name__} attaches modules to the model, which works neither with adapters (model.lora) "
            "nor with trainer.strategy=fsdp; set trainer.strategy=ddp and no adapters"
        )
    train_only(model, method.parameters(model))


def train_only(model: torch.nn.Module, chosen: Iterable[tuple[str, torch.nn.Parameter]] | None) -> None:
    """Freeze all weights but the chosen ones; weights that are frozen already stay so.

    Args:
        model: The model.
        chosen: Names and weights; ``None`` for all.

    Raises:
        UserError: No weight is left to train.
    """
    kept = {id(weight) for weight in model.parameters()} if chosen is None else {id(weight) for _, weight in chosen}
    for weight in model.parameters():
        weight.requires_grad_(weight.requires_grad and id(weight) in kept)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise UserError(
            "the method trains no weight of this model: all that it selects are frozen; with adapters (model.lora) "
            "only these can be trained"
        )
