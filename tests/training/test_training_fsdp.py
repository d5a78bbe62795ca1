"""What one process sees of sharded weights; several are tried in ``tests/test_spreading.py``."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from meow_lightning.training.fsdp import ShardedModel

IDS = torch.tensor([[5, 6, 7]])


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.detach() for name, each in model.named_parameters()}


def test_layers_and_model_are_sharded_with_unchanged_outputs(tiny, mesh: DeviceMesh) -> None:
    said = tiny(input_ids=IDS).logits
    ShardedModel(tiny, mesh)
    assert isinstance(tiny, FSDPModule)
    assert all(isinstance(layer, FSDPModule) for layer in tiny.model.layers)
    assert all(isinstance(weight, DTensor) for weight in tiny.parameters())
    torch.testing.assert_close(tiny(input_ids=IDS).logits, said)


def test_the_whole_model_is_of_now_plain_tied_and_gone_afterwards(tiny, mesh: DeviceMesh) -> None:
    frozen = tiny.model.norm.weight.requires_grad_(False)
    before, kind = copy.deepcopy(weights(tiny)), type(tiny)
    shards = ShardedModel(tiny, mesh)
    with torch.no_grad():
        for weight in tiny.parameters():
            weight.mul_(2)
    with shards.full_model() as model:
        assert type(model) is kind
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert all(torch.equal(weight, 2 * before[name]) for name, weight in weights(model).items())
        assert weights(model).keys() == before.keys()
        assert [weight.requires_grad for weight in model.parameters()].count(False) == 1
        assert not model.model.norm.weight.requires_grad
        torch.testing.assert_close(model(input_ids=IDS).logits, tiny(input_ids=IDS).logits)
    assert sum(weight.numel() for weight in model.parameters()) == 0
    assert frozen.shape == (16,)


def test_discarding_the_trained_model_restores_the_start_model_entirely(tiny, mesh: DeviceMesh) -> None:
    before = copy.deepcopy(weights(tiny))
    shards = ShardedModel(tiny, mesh)
    assert all(weight.numel() == 0 for weight in shards.full_cpu_copy(keep=False).parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in weights(shards.full_cpu_copy(keep=True)).items())


def test_gradients_wait_for_the_exchange(tiny, mesh: DeviceMesh) -> None:
    alone = copy.deepcopy(tiny)
    shards = ShardedModel(tiny, mesh)
    with shards.no_exchange():
        tiny(input_ids=IDS).logits.square().sum().backward()
    assert all(weight.grad is None for weight in tiny.parameters())
    tiny(input_ids=IDS + 1).logits.square().sum().backward()
    (alone(input_ids=IDS).logits.square().sum() + alone(input_ids=IDS + 1).logits.square().sum()).backward()
    for sharded, whole in zip(tiny.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(sharded.grad.full_tensor(), whole.grad)
