"""Models, prompts and end tokens for tests of models whose logits are computed from those of others."""

from __future__ import annotations

from typing import Any

import torch

from meow_lightning.models.tiny import llama

PROMPTS = [(5, 6, 7, 8, 9, 10, 11, 12, 13), (5, 6, 7), (20, 21, 22, 23), (5, 6, 7, 8), (30,), (31, 32, 33, 34, 35, 36)]
ENDS = frozenset({0, 3, 4})


def small(seed: int, layers: int) -> Any:
    torch.manual_seed(seed)
    return llama(
        vocab_size=50, hidden_size=16, layers=layers, heads=2, intermediate_size=32, context=64, end_id=0, pad_id=1
    ).eval()
