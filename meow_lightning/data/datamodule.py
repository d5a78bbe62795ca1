"""The plan as a Lightning data module: every item is one process's share of one global step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, IterableDataset

from meow_lightning.data.collate import collate_streams
from meow_lightning.data.plan import Plan, counts, share


class Steps(IterableDataset):
    """Steps ``start .. total_steps - 1`` of a plan as ``{"micros": [Batch, ...], "counts": Counts, "step": t}``."""

    def __init__(self, *, plan: Plan, start: int, rank: int, world: int, micro: int, pad_id: int) -> None:
        self.plan, self.start, self.rank, self.world, self.micro, self.pad_id = plan, start, rank, world, micro, pad_id

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for t in range(self.start, self.plan.total_steps):
            batch = self.plan.step(t)
            shares = [share(batch, rank=each, world=self.world, micro=self.micro) for each in range(self.world)]
            micros = shares[self.rank]
            # Sharded weights come from all processes, so all make as many passes, blank ones where rows ran out.
            micros += [{name: [] for name in batch} for _ in range(max(map(len, shares)) - len(micros))]
            yield {
                "micros": [collate_streams(part, pad_id=self.pad_id) for part in micros],
                "counts": counts(batch),
                "step": t,
            }


class PlannedData(pl.LightningDataModule):
    """Serves a plan to a trainer, from step ``start`` on.

    Args:
        plan: The global batches.
        start: First step to train; above 0 when a killed run goes on.
        micro: Rows per forward pass and stream; must not change any result.
        pad_id: Token id of padding.
    """

    def __init__(self, *, plan: Plan, start: int, micro: int, pad_id: int) -> None:
        super().__init__()
        self.plan, self.start, self.micro, self.pad_id = plan, start, micro, pad_id

    def train_dataloader(self) -> DataLoader:
        """Each step as what this process computes of it; rows are tokens already, so no loader processes are needed."""
        trainer = self.trainer
        assert trainer is not None
        steps = Steps(
            plan=self.plan, start=self.start, rank=trainer.global_rank, world=trainer.world_size, micro=self.micro,
            pad_id=self.pad_id,
        )  # fmt: skip
        return DataLoader(steps, batch_size=None)
