"""Lightning data module of a batch plan: every item is one process's share of one global step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, IterableDataset

from meow_lightning.data.batch_plan import BatchPlan, counts, shard_micro_batches, shard_token_batches
from meow_lightning.data.collate import collate_streams
from meow_lightning.types import Encoded

Phase = Callable[[int], tuple[str, ...]]  # epoch -> its streams


class Steps(IterableDataset):
    """Dataset of steps ``start .. total_steps - 1``.

    A step is ``{"micros": [Batch, ...], "counts": Counts, "tokens": int, "step": t}``; ``tokens`` are those of this
    process's rows, padding excluded.
    """

    def __init__(
        self, *, plan: BatchPlan, phase: Phase, start: int, rank: int, world: int, micro_batch_size: int,
        micro_batch_tokens: int | None, pad_id: int,
    ) -> None:  # fmt: skip
        self.phase = phase
        self.plan, self.start, self.rank, self.world, self.pad_id = plan, start, rank, world, pad_id
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for t in range(self.start, self.plan.total_steps):
            batch = self._active(self.plan.step(t), epoch=t // self.plan.steps_per_epoch)
            passes = self._passes(batch)
            yield {
                "micros": [collate_streams(part, pad_id=self.pad_id) for part in passes],
                "counts": counts(batch),
                "tokens": sum(len(row.ids) for part in passes for rows in part.values() for row in rows),
                "step": t,
            }

    def _active(self, batch: Mapping[str, Sequence[Encoded]], *, epoch: int) -> dict[str, Sequence[Encoded]]:
        """Select the streams of the epoch's phase.

        Raises:
            ValueError: The phase names no stream, or one that the plan does not have.
        """
        active = self.phase(epoch)
        if not active or not batch.keys() >= {*active}:
            raise ValueError(f"the phase of epoch {epoch} has the streams {active}: expected some of {tuple(batch)}")
        return {name: rows for name, rows in batch.items() if name in active}

    def _passes(self, batch: Mapping[str, Sequence[Encoded]]) -> list[dict[str, list[Encoded]]]:
        """Compute this process's micro-batches, padded with blank ones to the number of all other processes.

        Gathering sharded weights is collective, so a process with fewer passes would block the others. No process has
        more passes than the first, which is dealt rows first and, of rows sorted by length, the longer ones.
        """
        own = self._share(batch, self.rank)
        most = len(self._share(batch, 0)) if self.rank else len(own)
        blank: dict[str, list[Encoded]] = {name: [] for name in batch}
        return [*own, *[blank] * (most - len(own))]

    def _share(self, batch: Mapping[str, Sequence[Encoded]], rank: int) -> list[dict[str, list[Encoded]]]:
        if self.micro_batch_tokens is None:
            return shard_micro_batches(batch, rank=rank, world=self.world, micro=self.micro_batch_size)
        return shard_token_batches(
            batch, rank=rank, world=self.world, tokens=self.micro_batch_tokens, paired=self.plan.paired
        )


class PlannedData(pl.LightningDataModule):
    """Data module that serves a plan from step ``start`` on.

    Args:
        plan: The global batches.
        phase: The streams of an epoch, of those of the plan.
        start: First step to train; above 0 when training is resumed.
        micro_batch_size: Rows per forward pass and stream; does not affect results.
        micro_batch_tokens: Padded tokens per pass and stream instead of ``micro_batch_size``; ``None`` to count
            rows.
        pad_id: Token id of padding.
    """

    def __init__(
        self, *, plan: BatchPlan, phase: Phase, start: int, micro_batch_size: int, micro_batch_tokens: int | None,
        pad_id: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.phase = phase
        self.plan, self.start, self.pad_id = plan, start, pad_id
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens

    def train_dataloader(self) -> DataLoader:
        """Return this process's share of each step; rows are already tokenized, so no worker processes are needed."""
        trainer = self.trainer
        assert trainer is not None
        steps = Steps(
            plan=self.plan, phase=self.phase, start=self.start, rank=trainer.global_rank, world=trainer.world_size,
            micro_batch_size=self.micro_batch_size, micro_batch_tokens=self.micro_batch_tokens, pad_id=self.pad_id,
        )  # fmt: skip
        return DataLoader(steps, batch_size=None)
