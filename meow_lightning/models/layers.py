"""Decoder layers of a causal model, hidden states up to one of them, and a copy with the first ones alone."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from meow_lightning.types import TokenBatch

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class _ReachedError(Exception):
    """Carries a layer's output past the rest of the forward pass."""

    def __init__(self, hidden: torch.Tensor) -> None:
        super().__init__()
        self.hidden = hidden


def decoder_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Find the decoder layers, bottom first: the longest module list not nested in another, or [].

    Nested lists are excluded because a layer may have more experts than the model has layers.
    """
    longest = _layer_list(model)
    return list(longest) if longest is not None else []


def _layer_list(model: torch.nn.Module) -> torch.nn.ModuleList | None:
    import torch

    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    nested = {id(module) for outer in lists for module in outer.modules() if module is not outer}
    return max((module_list for module_list in lists if id(module_list) not in nested), key=len, default=None)


def first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """Build a model from the embeddings, the first decoder layers, the final norm and the head of another.

    All weights are those of ``model``, shared and not copied, so it costs no memory; training it alone takes weights
    of its own, such as adapters. Its config has as many layers as it has, so that it can be saved and loaded by itself.

    Args:
        model: A causal language model of transformers, left as it is.
        count: Number of layers, from 1; all of them if the model has fewer.

    Raises:
        ValueError: The model has no list of decoder layers.
    """
    import torch

    layers = _layer_list(model)
    if layers is None:
        raise ValueError(f"{type(model).__name__} has no list of decoder layers")
    memo: dict[int, Any] = {id(weight): weight for weight in model.parameters()}
    kept = torch.nn.ModuleList(copy.deepcopy(layer, memo) for layer in layers[:count])
    memo[id(layers)] = kept
    shallow: PreTrainedModel = copy.deepcopy(model, memo)
    config = shallow.config.get_text_config()
    for name, value in vars(config).items():
        if "layer" in name and isinstance(value, list) and len(value) == len(layers):  # such as layer_types
            setattr(config, name, value[: len(kept)])
    config.num_hidden_layers = len(kept)
    return shallow


def hidden_states(
    model: torch.nn.Module, rows: TokenBatch, *, layers: list[torch.nn.Module], layer: int
) -> torch.Tensor:
    """Compute the output of decoder layer ``layer`` at the scored tokens, (N, d), at least fp32; no layer above runs.

    Args:
        model: A causal language model, plain, adapted or a :class:`.FrozenView`.
        rows: Rows of one stream.
        layers: The decoder layers that run in the model's forward pass.
        layer: Index from 0, clipped to the last layer.

    Raises:
        ValueError: The model has no list of layers, or its forward pass did not reach the layer.
    """

    def stop(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        raise _ReachedError(output[0] if isinstance(output, tuple) else output)

    if not layers:
        raise ValueError(f"{type(model).__name__} has no list of decoder layers")
    handle = layers[min(layer, len(layers) - 1)].register_forward_hook(stop)
    positions_BT = (rows.attention_mask_BT.cumsum(-1) - 1).clamp(min=0)  # noqa: N806
    try:
        model(
            input_ids=rows.input_ids_BT,
            attention_mask=rows.attention_mask_BT,
            position_ids=positions_BT,
            use_cache=False,
        )
    except _ReachedError as reached:
        hidden_BTD = reached.hidden  # noqa: N806
    else:
        raise ValueError(f"{type(model).__name__} did not call its decoder layer {layer}")
    finally:
        handle.remove()
    hidden_ND = hidden_BTD[rows.loss_mask_BT.bool()]  # noqa: N806
    return hidden_ND.double() if hidden_ND.element_size() == 8 else hidden_ND.float()
