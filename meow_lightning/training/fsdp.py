"""One model over several processes (torch's FSDP2): each keeps its share of every weight; a layer computes whole."""

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
    """Nothing; each process keeps its share of every weight, and gets the rest of a layer while that computes.

    Args:
        model: A causal language model, whole and alike in all processes.
        mesh: The processes.
    """
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedModel:
    """A trained model in shards, and how to have it whole.

    Args:
        model: As for :func:`shard`; it is sharded in place.
        mesh: The processes.
    """

    def __init__(self, model: torch.nn.Module, mesh: DeviceMesh) -> None:
        hollow = {id(weight): _empty_like(weight) for weight in model.parameters()}
        # Weights are looked up in the memo, so tied ones stay tied and none is copied.
        self._hollow = copy.deepcopy(model, hollow)
        self._model = model
        shard(model, mesh)

    @contextlib.contextmanager
    def no_exchange(self) -> Iterator[None]:
        """Gradients are added up here, whole, and wait for a backward pass outside."""
        assert isinstance(self._model, FSDPModule)
        self._model.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self._model.set_requires_gradient_sync(True)

    @contextlib.contextmanager
    def whole(self) -> Iterator[torch.nn.Module]:
        """A plain model with the weights of now, in every process, on its device; every process has to ask."""
        try:
            yield self._filled(next(self._model.parameters()).device, keep=True)
        finally:
            for weight in self._hollow.parameters():
                weight.data = weight.new_empty(0)

    def plain(self, *, keep: bool) -> torch.nn.Module:
        """A plain model with the weights of now, on the CPU; every process has to ask.

        Args:
            keep: Whether this process wants it; else its weights are empty.
        """
        return self._filled(torch.device("cpu"), keep=keep)

    def _filled(self, device: torch.device, *, keep: bool) -> torch.nn.Module:
        for target, part in zip(self._hollow.parameters(), self._model.parameters(), strict=True):
            assert isinstance(part, DTensor)
            weight = DTensor.full_tensor(part).detach()
            target.data = weight.to(device) if keep else weight.new_empty(0)
        return self._hollow.to(device)  # buffers too


def _empty_like(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight.detach().new_empty(0), requires_grad=weight.requires_grad)
