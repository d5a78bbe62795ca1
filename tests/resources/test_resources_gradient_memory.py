from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.resources.gradient_memory import adapted_parameters, gradients_need, peak_need
from meow_lightning.resources.training_memory import MemorySettings, ModelDims, TrainingLoad, training_need

# Llama-2-7B; all weights but embeddings, head (32,000 * 4096 each) and 65 norms have adapters.
LLAMA = ModelDims(
    parameters=6_738_415_616, hidden=4096, layers=32, heads=32, kv_heads=32, head=128, intermediate=11008,
    vocabulary=32000, tied=False, gated=True, kept=4,
)  # fmt: skip
SETTINGS = MemorySettings(
    micro_batch_size=2, micro_batch_tokens=None, gradient_checkpointing=True, rank=32, init="fila",
    precision="bf16-true", devices=1, optimizer="adamw", strategy="auto",
)  # fmt: skip
LOAD = TrainingLoad(
    streams=2, batch=32, tokens=200, scored=100, shared=False, slack=1.0, gradients=True,
)  # fmt: skip


def test_the_adapted_weights_are_counted() -> None:
    assert adapted_parameters(LLAMA) == 6_738_415_616 - 2 * 32_000 * 4096 - 65 * 4096


def test_the_squares_of_every_adapted_weight_are_the_most() -> None:
    need = gradients_need(LLAMA, SETTINGS, LOAD)
    assert need.gradients == 4 * adapted_parameters(LLAMA) + 4096 * 11008 * (2 + 4 + 4)
    assert need.optimizer == 0
    assert peak_need(LLAMA, SETTINGS, LOAD) == need
    assert need.total > training_need(LLAMA, SETTINGS, LOAD).total


@pytest.mark.parametrize("changes", [{"gradients": False}, {"batch": 10**6, "tokens": 10**5}])
def test_a_step_may_take_more(changes) -> None:
    load = replace(LOAD, **changes)
    settings = replace(SETTINGS, micro_batch_size=100)
    assert peak_need(LLAMA, settings, load) == training_need(LLAMA, settings, load)


def test_every_process_keeps_all_squares() -> None:
    two = replace(SETTINGS, devices=2, strategy="ddp")
    one = gradients_need(LLAMA, SETTINGS, LOAD)
    assert gradients_need(LLAMA, two, LOAD) == one
    assert gradients_need(LLAMA, two, replace(LOAD, shared=True)).total == 2 * one.total
