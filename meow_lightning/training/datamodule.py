"""The plan as a Lightning data module: every item is one process's share of one global step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, IterableDataset

from meow_lightning.data.batch_plan import Plan, counts, shard_micro_batches, shard_token_batches
from meow_lightning.data.collate import collate_streams
from meow_lightning.types import Encoded


class Steps(IterableDataset):
    """Steps ``start .. total_steps - 1`` of a plan as ``{"micros": [Batch, ...], "counts": Counts, "step": t}``."""

    def __init__(
        self, *, plan: Plan, start: int, rank: int, world: int, micro_batch_size: int, micro_batch_tokens: int | None,
        pad_id: int,
    ) -> None:  # fmt: skip
        self.plan, self.start, self.rank, self.world, self.pad_id = plan, start, rank, world, pad_id
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for t in range(self.start, self.plan.total_steps):
            batch = self.plan.step(t)
            yield {
                "micros": [collate_streams(part, pad_id=self.pad_id) for part in self._passes(batch)],
                "counts": counts(batch),
                "step": t,
            }

    def _passes(self, batch: Mapping[str, Sequence[Encoded]]) -> list[dict[str, list[Encoded]]]:
        """The micro-batches of this process, as many as every other has: blank ones where rows ran out.

        Sharded weights come from all processes, so one that made fewer passes would leave the others waiting. None has
        more than the first, which is dealt to before the others, and of rows sorted by length the longer ones.
        """
        mine = self._share(batch, self.rank)
        most = len(self._share(batch, 0)) if self.rank else len(mine)
        blank: dict[str, list[Encoded]] = {name: [] for name in batch}
        return [*mine, *[blank] * (most - len(mine))]

    def _share(self, batch: Mapping[str, Sequence[Encoded]], rank: int) -> list[dict[str, list[Encoded]]]:
        if self.micro_batch_tokens is None:
            return shard_micro_batches(batch, rank=rank, world=self.world, micro=self.micro_batch_size)
        return shard_token_batches(
            batch, rank=rank, world=self.world, tokens=self.micro_batch_tokens, paired=self.plan.paired
        )


class PlannedData(pl.LightningDataModule):
    """Serves a plan to a trainer, from step ``start`` on.

    Args:
        plan: The global batches.
        start: First step to train; above 0 when a killed run goes on.
        micro_batch_size: Rows per forward pass and stream; must not change any result.
        micro_batch_tokens: Padded tokens per pass and stream in the place of ``micro_batch_size``; ``None`` to count
            rows.
        pad_id: Token id of padding.
    """

    def __init__(
        self, *, plan: Plan, start: int, micro_batch_size: int, micro_batch_tokens: int | None, pad_id: int
    ) -> None:
        super().__init__()
        self.plan, self.start, self.pad_id = plan, start, pad_id
        self.micro_batch_size, self.micro_batch_tokens = micro_batch_size, micro_batch_tokens

    def train_dataloader(self) -> DataLoader:
        """Each step as what this process computes of it; rows are tokens already, so no loader processes are needed."""
        trainer = self.trainer
        assert trainer is not None
        steps = Steps(
            plan=self.plan, start=self.start, rank=trainer.global_rank, world=trainer.world_size,
            micro_batch_size=self.micro_batch_size, micro_batch_tokens=self.micro_batch_tokens, pad_id=self.pad_id,
        )  # fmt: skip
        return DataLoader(steps, batch_size=None)
