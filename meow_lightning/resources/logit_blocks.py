"""Sizes of the blocks in which logits of training are computed; without torch."""

from __future__ import annotations

SMALL_VOCABULARY = 2**13
WHOLE = 2**25  # logits of a pass over a small vocabulary that are still computed at once: 128 MiB in fp32
BLOCK = 2**24  # logits of a block otherwise: 64 MiB in fp32
MIN_ROWS = 16


def rows_per_block(positions: int, vocabulary: int) -> int | None:
    """Return the number of positions whose logits exist in fp32 at a time; ``None`` for all of a pass.

    Blocks repeat the head's forward pass in the backward pass. Below the bound this costs more than it saves, and a sum
    in one piece keeps the numbers of small models independent of blocks.

    Args:
        positions: Rows of a pass times columns in which some row is scored.
        vocabulary: Vocabulary size.
    """
    if vocabulary <= SMALL_VOCABULARY and positions * vocabulary <= WHOLE:
        return None
    return max(MIN_ROWS, BLOCK // vocabulary)
