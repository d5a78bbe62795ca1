"""The time of a forward pass."""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from helpers.models import tiny_llama

from meow_lightning.models.latency import forward_milliseconds


def test_the_median_is_of_passes_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    durations = [9.0, 0.004, 0.001, 0.002]  # of the passes in their order, in seconds
    clock = itertools.accumulate(each for duration in durations for each in (1.0, duration))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert forward_milliseconds(tiny_llama(seed=0, vocab_size=50), repeats=3) == pytest.approx(2.0)


def test_a_row_is_128_tokens_long_or_as_long_as_the_context() -> None:
    lengths = []
    for context in (16, 1024):
        model = tiny_llama(seed=0, vocab_size=50, max_position_embeddings=context)
        model.model.embed_tokens.register_forward_pre_hook(lambda _, ids: lengths.append(ids[0].shape))
        forward_milliseconds(model, repeats=1)
    assert lengths == [torch.Size([1, 16])] * 2 + [torch.Size([1, 128])] * 2
