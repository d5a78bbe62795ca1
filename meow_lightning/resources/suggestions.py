"""Settings under which a training fits into the available memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from meow_lightning.resources.gradient_memory import peak_need
from meow_lightning.resources.training_memory import MemorySettings, ModelDims, TrainingLoad

SUGGESTED_RANK = 16


def settings_that_fit(
    shape: ModelDims, settings: MemorySettings, load: TrainingLoad, *, available: int
) -> list[tuple[str, int]]:
    """Find single settings and pairs under which a training fits, each with its total bytes, mildest first.

    Settings that do not change results (micro-batch, checkpointing, devices) come before those that do (precision,
    LoRA), single ones before pairs; pairs of which one setting suffices are omitted; of micro-batches, the largest
    half, quarter, … that fits is suggested.
    """
    suggestions: dict[frozenset[str], tuple[str, int]] = {}
    options = list(_options(settings, load))
    sets = [*combinations(options, 1), *combinations(options, 2)]
    for chosen in sorted(sets, key=lambda each: sum(changes for changes, _, _ in each)):  # stable: singles first
        names = frozenset(name for _, name, _ in chosen)
        if any(smaller <= names for smaller in suggestions):
            continue
        for values in product(*(values for _, _, values in chosen)):
            changed = dict(zip((name for _, name, _ in chosen), values, strict=True))
            fewer = replace(settings, **{name.rpartition(".")[2]: value for name, value in changed.items()})
            if (total := peak_need(shape, fewer, load).total) <= available:
                suggestions[names] = (
                    " ".join(f"{name}={str(value).lower()}" for name, value in changed.items()),
                    total,
                )
                break
    return list(suggestions.values())


def _options(settings: MemorySettings, load: TrainingLoad) -> Iterator[tuple[bool, str, Sequence[Any]]]:
    """Yield (whether results change, setting, values to try) for every setting with a cheaper value."""
    size = settings.micro_batch_size if settings.micro_batch_tokens is None else settings.micro_batch_tokens
    halves = [size >> times for times in range(1, size.bit_length())]
    if halves:
        yield False, f"trainer.micro_batch_{'size' if settings.micro_batch_tokens is None else 'tokens'}", halves
    if not settings.gradient_checkpointing:
        yield False, "trainer.gradient_checkpointing", [True]
    if settings.devices > 1 and load.shared:
        yield False, "trainer.devices", [1]
    if settings.devices > 1 and not load.shared and settings.rank is None and not settings.sharded:
        yield False, "trainer.strategy", ["fsdp"]
    if settings.precision == "bf16-mixed" and settings.rank is None:
        yield True, "model.precision", ["bf16-true"]
    if settings.rank is None and settings.strategy != "fsdp":
        yield True, "model.lora.rank", [SUGGESTED_RANK]
