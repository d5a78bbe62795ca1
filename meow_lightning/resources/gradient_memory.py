"""Estimated memory of the gradients of single rows by all adapted weights, which precede a training (FILA)."""

from __future__ import annotations

from dataclasses import fields, replace

from meow_lightning.resources.training_memory import (
    Memory,
    MemorySettings,
    ModelDims,
    TrainingLoad,
    lora_parameters,
    training_memory,
    training_need,
)


def peak_need(shape: ModelDims, settings: MemorySettings, load: TrainingLoad) -> Memory:
    """Compute the peak memory of a training stage: that of a step, or of the gradients before the first one."""
    step = training_need(shape, settings, load)
    return max(step, gradients_need(shape, settings, load), key=lambda each: each.total) if load.gradients else step


def gradients_need(shape: ModelDims, settings: MemorySettings, load: TrainingLoad) -> Memory:
    """Compute the peak memory of the Fisher pass, of all processes if they share one memory, else of one.

    Besides the model, without gradient checkpointing on one row: the squares of the retain set for every adapted weight
    in at least float32; and of the largest layer the gradient, a copy in at least float32 and its square.
    """
    exact = max(4, settings.weight_bytes)
    one = training_memory(
        shape, weight_bytes=settings.weight_bytes, compute_bytes=settings.compute_bytes, rows=1, tokens=load.tokens,
        scored=load.scored, gradient_checkpointing=False, slack=load.slack, optimizer="adamw",
        trained=lora_parameters(shape, rank=settings.rank or 1),
    )  # fmt: skip
    squares = adapted_parameters(shape) * exact
    layer = shape.hidden * shape.intermediate * (settings.weight_bytes + 2 * exact)
    one = replace(one, gradients=squares + layer, optimizer=0)
    times = settings.devices if load.shared else 1
    return Memory(**{each.name: times * getattr(one, each.name) for each in fields(one)})


def adapted_parameters(shape: ModelDims) -> int:
    """Count the weights of the layers that have adapters: every linear layer but the head, without biases."""
    attention = 2 * shape.hidden * shape.head * (shape.heads + shape.kv_heads)
    return shape.layers * (attention + (3 if shape.gated else 2) * shape.hidden * shape.intermediate)
