"""Hidden states of every decoder layer at the scored tokens: recorded, decoded by the model's own head, patched in.

Further shape letters here: L decoder layers, D entries of a hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from meow_lightning.models.heads import ScoredPlaces, run_at
from meow_lightning.models.layers import decoder_layers
from meow_lightning.models.logprobs import negative_log_likelihood, scored_logits
from meow_lightning.types import TokenBatch


def recorded_states(model: torch.nn.Module, rows: TokenBatch) -> torch.Tensor:
    """Record the output of every decoder layer at the positions that predict the scored tokens, (L, N, D).

    Args:
        model: A causal language model in evaluation mode.
        rows: Rows of one stream.

    Raises:
        ValueError: The model has no list of decoder layers, or the first token of a row is scored.
    """
    places, found = ScoredPlaces.of(rows), []

    def record(_module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        found.append(_hidden(output)[:, :-1][places.targets_BT])

    handles = [layer.register_forward_hook(record) for layer in _layers(model)]
    try:
        run_at(model, rows, places.columns_K)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(found)


def decoded_states(model: torch.nn.Module, states_LND: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Decode hidden states with what follows the last decoder layer of a model, logits (N, L, V) in at least fp32.

    What follows is the model's own last norm and head, and what its architecture adds, such as capped or scaled logits:
    a pass over rows of L placeholder tokens runs it, in which the last layer's output is replaced by the states. The
    states of the last layer therefore give the model's own logits.

    Args:
        model: A causal language model in evaluation mode.
        states_LND: Outputs of decoder layers, such as :func:`recorded_states`.
    """
    states_NLD = states_LND.transpose(0, 1)  # noqa: N806

    def replace(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
        return _like(output, states_NLD)

    ids = torch.zeros(states_NLD.shape[:2], dtype=torch.long, device=states_NLD.device)
    handle = _layers(model)[-1].register_forward_hook(replace)
    try:
        logits: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    finally:
        handle.remove()
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def patched_logps(
    model: torch.nn.Module, rows: TokenBatch, *, layer: int | None, states_ND: torch.Tensor | None  # noqa: N803
) -> torch.Tensor:  # fmt: skip
    """Compute log p of every scored token, (N,), in nats, with the output of one layer replaced where it is predicted.

    Args:
        model: A causal language model in evaluation mode.
        rows: Rows of one stream.
        layer: Index of the layer from 0; ``None`` to replace nothing.
        states_ND: Its output at the positions that predict the scored tokens, as in :func:`recorded_states`.

    Raises:
        ValueError: As :func:`recorded_states`.
    """
    if layer is None or states_ND is None:
        return -negative_log_likelihood(*scored_logits(model, rows))
    with _patched(_layers(model)[layer], ScoredPlaces.of(rows).targets_BT, states_ND):
        return -negative_log_likelihood(*scored_logits(model, rows))


def layer_count(model: torch.nn.Module) -> int:
    """Return the number of decoder layers.

    Raises:
        ValueError: The model has no list of decoder layers.
    """
    return len(_layers(model))


@contextmanager
def _patched(
    layer: torch.nn.Module, targets_BT: torch.Tensor, states_ND: torch.Tensor  # noqa: N803
) -> Iterator[None]:  # fmt: skip
    """Replace the output of a layer at the positions before the target tokens within the context."""

    def replace(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
        hidden_BTD = _hidden(output).clone()  # noqa: N806
        hidden_BTD[:, :-1][targets_BT] = states_ND.to(hidden_BTD.dtype)
        return _like(output, hidden_BTD)

    handle = layer.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _layers(model: torch.nn.Module) -> Sequence[torch.nn.Module]:
    layers = decoder_layers(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no list of decoder layers")
    return layers


def _hidden(output: Any) -> torch.Tensor:
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _like(output: Any, hidden: torch.Tensor) -> Any:
    """Put hidden states into the form of a layer's output, which may hold more than them."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
