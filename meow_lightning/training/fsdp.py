"""Fully sharded training with torch's FSDP2: every process holds a shard of every weight."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from meow_lightning.models.layers import decoder_layers


def shard(model: torch.nn.Module, mesh: DeviceMesh) -> None:
    """Shard the weights; a layer is gathered while it computes.

    Args:
        model: A causal language model, complete and identical in all processes.
        mesh: The processes.
    """
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedModel:
    """A sharded model, with access to its full weights.

    Args:
        model: As for :func:`shard`; sharded in place.
        mesh: The processes.
    """

    def __init__(self, model: torch.nn.Module, mesh: DeviceMesh) -> None:
        empty = {id(weight): _empty_like(weight) for weight in model.parameters()}
        # Weights are replaced through deepcopy's memo, so tied ones stay tied and none is copied.
        self._template = copy.deepcopy(model, empty)
        self._model = model
        shard(model, mesh)

    @contextlib.contextmanager
    def no_exchange(self) -> Iterator[None]:
        """Accumulate gradients locally without exchange; a later backward pass outside exchanges them."""
        assert isinstance(self._model, FSDPModule)
        self._model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._model.set_requires_gradient_sync(True)

    @contextlib.contextmanager
    def full_model(self) -> Iterator[torch.nn.Module]:
        """Gather a plain model with the current weights in every process, on its device; a collective call."""
        try:
            yield self._filled(next(self._model.parameters()).device, keep=True)
        finally:
            for weight in self._template.parameters():
                weight.data = weight.new_empty(0)

    def full_cpu_copy(self, *, keep: bool) -> torch.nn.Module:
        """Gather a plain model with the current weights on the CPU; a collective call.

        Args:
            keep: Whether this process needs it; otherwise its weights are empty.
        """
        return self._filled(torch.device("cpu"), keep=keep)

    def _filled(self, device: torch.device, *, keep: bool) -> torch.nn.Module:
        # torch's get_model_state_dict would gather tied weights once per name.
        for target, part in zip(self._template.parameters(), self._model.parameters(), strict=True):
            assert isinstance(part, DTensor)
            weight = DTensor.full_tensor(part).detach()
            target.data = weight.to(device) if keep else weight.new_empty(0)
        return self._template.to(device)  # including buffers


def _empty_like(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight.detach().new_empty(0), requires_grad=weight.requires_grad)
