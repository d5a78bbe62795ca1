from __future__ import annotations

import copy

import pytest
import torch
from transformers import PreTrainedModel

from meow_lightning.models.float64 import float64_forward
from meow_lightning.models.tiny import initialized_in, llama


@pytest.fixture
def model() -> PreTrainedModel:
    torch.manual_seed(0)
    return llama(
        vocab_size=50, hidden_size=16, layers=2, heads=2, intermediate_size=32, context=32, end_id=0, pad_id=1
    ).eval()  # fmt: skip


def logits(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_it_is_the_same_llama_in_float64_without_float32s_rounding(model) -> None:
    ids = torch.arange(24)[None]
    double = copy.deepcopy(model).double()
    names = [name for name, _ in double.named_parameters()]
    before = logits(double, ids)
    float64_forward(double)
    after = logits(double, ids)
    assert [name for name, _ in double.named_parameters()] == names
    assert 0 < (after - before).abs().max() < 1e-6  # transformers' norms and rotations had rounded to float32
    assert (after - logits(model, ids)).abs().max() < 1e-5


def test_it_reacts_to_changes_that_float32_does_not_see(model) -> None:
    ids = torch.arange(24)[None]
    double = copy.deepcopy(model).double()
    float64_forward(double)
    nudged = copy.deepcopy(double)
    weight = nudged.get_input_embeddings().weight
    weight.data.mul_(1 + 1e-12)  # norms scale it away but for their epsilon; the tied head does not
    moved = (logits(nudged, ids) - logits(double, ids)).abs().max()
    assert 1e-15 < moved < 1e-10


def test_rotations_by_hand(model) -> None:
    double = copy.deepcopy(model).double()
    float64_forward(double)
    cos, sin = double.model.rotary_emb(torch.zeros(1, dtype=torch.float64), torch.tensor([[0, 3]]))
    # width 8: frequencies 10000 ** (-2 i / 8) = 1, 0.1, 0.01, 0.001, each twice
    angles = torch.tensor([3.0, 0.3, 0.03, 0.003] * 2, dtype=torch.float64)
    assert torch.allclose(cos[0, 1], angles.cos(), rtol=0, atol=1e-15)
    assert torch.allclose(sin[0, 1], angles.sin(), rtol=0, atol=1e-15)
    assert cos[0, 0].tolist() == [1.0] * 8


def test_new_weights_are_drawn_in_the_requested_precision(model) -> None:
    torch.manual_seed(0)
    with initialized_in(torch.float64):
        drawn = llama(
            vocab_size=50, hidden_size=16, layers=1, heads=2, intermediate_size=32, context=32, end_id=0, pad_id=1
        )  # fmt: skip
    weight = drawn.get_input_embeddings().weight
    assert weight.dtype == torch.float64
    assert not torch.equal(weight, weight.float().double())
    assert torch.get_default_dtype() == torch.float32
