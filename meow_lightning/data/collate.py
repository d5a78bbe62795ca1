"""Collation of encoded rows into padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import torch

from meow_lightning.types import Batch, Encoded, TokenBatch


def collate(rows: Sequence[Encoded], *, pad_id: int) -> TokenBatch:
    """Pad rows on the right to the longest of them, shape (B, T).

    Without rows, return one blank row of two tokens and an empty loss mask: a process without data must still take part
    in the gradient exchange, and an empty sum is 0 with a gradient of 0.
    """
    if not rows:
        blank = torch.full((1, 2), pad_id)
        return TokenBatch(blank, torch.ones_like(blank), torch.zeros_like(blank), torch.zeros(1, dtype=torch.float64))
    longest = max(len(row.ids) for row in rows)
    ids, attention, scored = [], [], []
    for row in rows:
        pad = longest - len(row.ids)
        ids.append([*row.ids, *[pad_id] * pad])
        attention.append([1] * len(row.ids) + [0] * pad)
        scored.append([0] * row.prompt + [1] * row.scored + [0] * pad)
    reference = torch.tensor([row.reference for row in rows], dtype=torch.float64)
    return TokenBatch(torch.tensor(ids), torch.tensor(attention), torch.tensor(scored), reference)


def to_device(rows: TokenBatch, device: torch.device | str) -> TokenBatch:
    """Move the tensors of a micro-batch to a device."""
    return TokenBatch(*(tensor.to(device) for tensor in rows))


def blank_like(rows: TokenBatch) -> TokenBatch:
    """Return one row of two tokens and an empty loss mask on the device of other rows; see :func:`collate`."""
    ids = rows.input_ids_BT[:1, :2]
    return TokenBatch(ids, torch.ones_like(ids), torch.zeros_like(ids), torch.zeros_like(rows.ref_logps_B[:1]))


def rows_of(batch: Batch, streams: Set[str]) -> Batch:
    """Return a micro-batch with the rows of some streams and a blank row for each of the others.

    Losses are sums over rows, so what a method computes of it is their share.
    """
    return {name: rows if name in streams else blank_like(rows) for name, rows in batch.items()}


def collate_without_targets(rows: TokenBatch, *, pad_id: int) -> TokenBatch:
    """Mask every token equal to the padding token from attention, wherever it occurs."""
    return rows._replace(attention_mask_BT=rows.attention_mask_BT * (rows.input_ids_BT != pad_id))


def collate_streams(batch: Mapping[str, Sequence[Encoded]], *, pad_id: int) -> Batch:
    """Collate a micro-batch stream by stream."""
    return {name: collate(rows, pad_id=pad_id) for name, rows in batch.items()}
