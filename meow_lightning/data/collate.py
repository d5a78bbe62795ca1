"""Encoded rows to padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from meow_lightning.types import Batch, Encoded, TokenBatch


def collate(rows: Sequence[Encoded], *, pad_id: int) -> TokenBatch:
    """Rows padded on the right to the longest of them; shapes (B, T).

    No rows give one blank row of two tokens with nothing scored: a process without work must still take part in the
    gradient exchange, and a sum over nothing is 0 with a gradient of 0.
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


def collate_without_targets(rows: TokenBatch, *, pad_id: int) -> TokenBatch:
    """Rows in which every token that is also the padding token is hidden from attention, wherever it stands."""
    return rows._replace(attention_mask_BT=rows.attention_mask_BT * (rows.input_ids_BT != pad_id))


def collate_streams(batch: Mapping[str, Sequence[Encoded]], *, pad_id: int) -> Batch:
    """A micro-batch as tensors, stream by stream."""
    return {name: collate(rows, pad_id=pad_id) for name, rows in batch.items()}
