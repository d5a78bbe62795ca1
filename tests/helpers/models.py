"""Tiny, randomly initialised models of transformers' own classes; for whole checkpoints see ``model_families``."""

from __future__ import annotations

import contextlib
from typing import Any, TypeVar

import torch
from transformers import LlamaConfig, LlamaForCausalLM

T = TypeVar("T", bound=LlamaForCausalLM)


def tiny_sizes(**changes: Any) -> dict[str, Any]:
    """Build the sizes of a two-layer model 32 wide, as keyword arguments of a config class, with the given changes.

    Args:
        **changes: Other sizes and any further arguments of the config, such as ``vocab_size``.
    """
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return sizes | changes


def tiny_llama(kind: type[T] = LlamaForCausalLM, *, seed: int | None = None, **changes: Any) -> T:
    """Build a Llama in evaluation mode.

    Args:
        kind: The class, for tests of models that differ in their code.
        seed: Seed of the weights, which leaves the caller's random state unchanged; ``None`` draws from that state.
        **changes: As of :func:`tiny_sizes`.
    """
    with torch.random.fork_rng(devices=[]) if seed is not None else contextlib.nullcontext():
        if seed is not None:
            torch.manual_seed(seed)
        model = kind(LlamaConfig(**tiny_sizes(**changes)))
    return model.eval()
