"""Under which settings a training fits into the memory there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

from meow_lightning.resources.training_memory import MemorySettings, ModelDims, TrainingLoad, training_need

SUGGESTED_RANK = 16


def settings_that_fit(
    shape: ModelDims, knobs: MemorySettings, load: TrainingLoad, *, there: int
) -> list[tuple[str, int]]:
    """Single settings and pairs under which a training fits into ``there`` bytes, each with its total, mildest first.

    First those that change no number (micro-batch, checkpointing, devices), then those that do (precision, LoRA), one
    setting before two; no pair of which one alone does; the largest half, quarter, … of the micro-batch that fits.
    """
    found: dict[frozenset[str], tuple[str, int]] = {}
    options = list(_options(knobs, load))
    sets = [*combinations(options, 1), *combinations(options, 2)]
    for chosen in sorted(sets, key=lambda each: sum(changes for changes, _, _ in each)):  # stable: singles first
        names = frozenset(name for _, name, _ in chosen)
        if any(smaller <= names for smaller in found):
            continue
        for values in product(*(values for _, _, values in chosen)):
            changed = dict(zip((name for _, name, _ in chosen), values, strict=True))
            fewer = replace(knobs, **{name.rpartition(".")[2]: value for name, value in changed.items()})
            if (total := training_need(shape, fewer, load).total) <= there:
                found[names] = (" ".join(f"{name}={str(value).lower()}" for name, value in changed.items()), total)
                break
    return list(found.values())


def _options(knobs: MemorySettings, load: TrainingLoad) -> Iterator[tuple[bool, str, Sequence[Any]]]:
    """(whether numbers change, setting, values to try) of every setting that has a thriftier value."""
    size = knobs.micro_batch_size if knobs.micro_batch_tokens is None else knobs.micro_batch_tokens
    halves = [size >> times for times in range(1, size.bit_length())]
    if halves:
        yield False, f"trainer.micro_batch_{'size' if knobs.micro_batch_tokens is None else 'tokens'}", halves
    if not knobs.gradient_checkpointing:
        yield False, "trainer.gradient_checkpointing", [True]
    if knobs.devices > 1 and load.shared:
        yield False, "trainer.devices", [1]
    if knobs.devices > 1 and not load.shared and knobs.rank is None and not knobs.sharded:
        yield False, "trainer.strategy", ["fsdp"]
    if knobs.precision == "bf16-mixed" and knobs.rank is None:
        yield True, "model.precision", ["bf16-true"]
    if knobs.rank is None and knobs.strategy != "fsdp":
        yield True, "model.lora.rank", [SUGGESTED_RANK]
