"""Time of a model's forward pass."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 128  # of the pass, or the context if it is shorter


def forward_milliseconds(model: PreTrainedModel, *, repeats: int = 5) -> float:
    """Measure a forward pass over one row of 128 tokens on the model's device: the median of several, after one more.

    Args:
        model: The model, in evaluation mode.
        repeats: Number of measured passes, from 1.
    """
    import torch

    from meow_lightning.models.heads import vocabulary_of
    from meow_lightning.models.load import context_of

    tokens = min(TOKENS, context_of(model.config))
    ids = (torch.arange(tokens, device=model.device) % vocabulary_of(model))[None]
    seconds = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(input_ids=ids, use_cache=False).logits[0, -1, 0].item()  # reading a value waits for the device
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:])
