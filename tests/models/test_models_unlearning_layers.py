from __future__ import annotations

import copy

import pytest
import torch
from helpers.model_families import FAMILIES, save_family
from helpers.models import tiny_llama, tiny_sizes
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.unlearning_layers import (
    Correction,
    attach_layers,
    bypassed,
    detach_layers,
    feed_forward_blocks,
    fold,
    fold_layers,
    fuse,
    gram_matrices,
    load_corrections,
    save_corrections,
    unlearning_layers,
)
from meow_lightning.types import Encoded

ROWS = [Encoded((5, 6, 7, 8), 2), Encoded((9, 10), 1), Encoded((11, 12, 13), 2)]
IDS = torch.tensor([[5, 6, 7, 8]])


def correction(up: list[list[float]], inputs: list[list[float]]) -> Correction:
    """A layer whose inputs on its forget set, projected, are ``inputs``."""
    z_NR = torch.tensor(inputs, dtype=torch.float64)  # noqa: N806
    return Correction(torch.eye(z_NR.shape[1], dtype=torch.float64), torch.tensor(up).double(), z_NR.T @ z_NR)


def fused(*requests: Correction, ridge: float = 0.0) -> torch.Tensor:
    ((_, up, _),) = fuse([[request] for request in requests], ridge=ridge)
    return up


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """A model with unlearning layers that do something."""
    attach_layers(model.eval(), rank=4)
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in unlearning_layers(model):
            layer.up.normal_()
    return model


def test_requests_of_one_dimension_are_weighted_by_their_squares() -> None:
    assert fused(correction([[1.0]], [[1.0]]), correction([[3.0]], [[2.0]])).item() == pytest.approx(2.6)


def test_fused_weights_are_those_of_least_squares_on_all_rows() -> None:
    first, second = [[1.0, 0.0], [1.0, 1.0]], [[0.0, 2.0]]
    up = fused(correction([[1.0], [0.0]], first), correction([[0.0], [3.0]], second))
    torch.testing.assert_close(up, torch.tensor([[-1 / 3], [8 / 3]], dtype=torch.float64))
    inputs = torch.tensor(first + second, dtype=torch.float64)
    outputs = torch.tensor([[1.0], [1.0], [6.0]], dtype=torch.float64)
    torch.testing.assert_close(up, torch.linalg.lstsq(inputs, outputs).solution)


def test_equal_weights_stay_and_orthogonal_requests_keep_their_own_rows() -> None:
    ups = [[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]
    same = fused(correction(ups[0], [[1.0, 2.0]]), correction(ups[0], [[3.0, 1.0]]))
    torch.testing.assert_close(same, torch.tensor(ups[0]).double())
    apart = fused(correction(ups[0], [[1.0, 0.0]]), correction(ups[1], [[0.0, 1.0]]))
    torch.testing.assert_close(apart, torch.tensor([[1.0, 2.0], [7.0, 8.0]], dtype=torch.float64))


def test_with_a_ridge_directions_that_no_forget_set_has_are_left_alone() -> None:
    up = fused(correction([[1.0], [9.0]], [[1.0, 0.0]]), correction([[3.0], [9.0]], [[2.0, 0.0]]), ridge=1e-6)
    torch.testing.assert_close(up, torch.tensor([[2.6], [0.0]], dtype=torch.float64), rtol=0, atol=1e-5)


def test_requests_of_other_ranks_are_refused() -> None:
    with pytest.raises(UserError, match=r"different shapes; .*method\.rank$"):
        fuse([[correction([[1.0]], [[1.0]])], [correction([[1.0], [2.0]], [[1.0, 0.0]])]], ridge=0.0)


@pytest.mark.parametrize("name", [*FAMILIES, "gpt2"])
def test_layers_start_as_nothing_fold_exactly_and_can_be_bypassed(name: str, tmp_path) -> None:
    model = (
        GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300)) if name == "gpt2"
        else AutoModelForCausalLM.from_pretrained(save_family(name, tmp_path, texts=["a b"]))
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.parameters():  # GPT-2's biases are zero at first
            weight += 0.01 * torch.randn_like(weight)
    before, weights = logits(model), {key: each.clone() for key, each in model.state_dict().items()}
    attach_layers(model, rank=4)
    assert torch.equal(logits(model), before)
    with torch.no_grad():
        for layer in unlearning_layers(model):
            layer.up.normal_()
    after = logits(model)
    assert (after - before).abs().max() > 1e-3
    model.train()
    assert torch.equal(FrozenView(model, bypassed)(input_ids=IDS).logits, before)
    assert model.training
    model.eval()
    assert torch.equal(logits(model), after)
    corrections = fold_layers(model, [])
    assert len(corrections) == 2
    assert model.state_dict().keys() == weights.keys()
    torch.testing.assert_close(logits(model), after, rtol=0, atol=1e-6)  # norms compute in float32
    changed = {key for key, each in model.state_dict().items() if not torch.equal(each, weights[key])}
    assert len(changed) in (2, 4)  # the last matrix of each block, and its bias where there is one


def test_corrections_of_zero_change_no_bit() -> None:
    model = tiny_llama(vocab_size=40)
    weights = {key: each.clone() for key, each in model.state_dict().items()}
    attach_layers(model, rank=4)
    fold_layers(model, [])
    assert all(torch.equal(each, weights[key]) for key, each in model.state_dict().items())


def test_the_projection_is_the_same_for_every_seed_and_at_most_as_wide_as_the_model() -> None:
    downs = []
    for seed in (0, 1):
        model = tiny_llama(vocab_size=40, seed=seed)
        attach_layers(model, rank=99)
        downs.append([layer.down for layer in unlearning_layers(model)])
    assert [each.shape for each in downs[0]] == [(32, 32)] * 2
    assert all(torch.equal(*pair) for pair in zip(*downs, strict=True))
    assert not torch.equal(*downs[0])


def test_copies_have_layers_of_their_own_and_detaching_restores_the_model() -> None:
    model = moved(tiny_llama(vocab_size=40))
    other, after = copy.deepcopy(model), logits(model)
    with torch.no_grad():
        for layer in unlearning_layers(other):
            layer.up.zero_()
    assert torch.equal(logits(model), after)
    start = logits(other)
    detach_layers(model)
    assert torch.equal(logits(model), start)
    assert not unlearning_layers(model)


def test_gram_matrices_are_those_of_all_tokens_however_rows_are_batched() -> None:
    model, inputs = moved(tiny_llama(vocab_size=40).double()), []
    layer = unlearning_layers(model)[1]
    handle = layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].reshape(-1, 32)))
    with torch.no_grad():
        for row in ROWS:
            model(input_ids=torch.tensor([row.ids]))
    handle.remove()
    z_NR = torch.cat(inputs) @ layer.down  # noqa: N806
    alone = gram_matrices(model, [collate([row], pad_id=0) for row in ROWS])
    padded = gram_matrices(model, [collate(ROWS, pad_id=1)])
    for each in (alone, padded):
        torch.testing.assert_close(each[1], z_NR.T @ z_NR, rtol=1e-5, atol=0)


def test_a_folded_fusion_of_one_request_is_that_request(tmp_path) -> None:
    model = moved(tiny_llama(vocab_size=40).double())
    start, after = copy.deepcopy(model), logits(model)
    detach_layers(start)
    save_corrections(fold_layers(model, [collate([Encoded(tuple(range(40)), 1)], pad_id=0)]), tmp_path)
    fold(start, fuse([load_corrections(tmp_path)], ridge=1e-12))
    torch.testing.assert_close(logits(start), after, rtol=0, atol=1e-6)


def test_a_folder_without_corrections_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"has no unlearning/corrections\.safetensors; give .*method=eul"):
        load_corrections(tmp_path)


def test_blocks_without_a_last_linear_layer_are_refused() -> None:
    config = MixtralConfig(**tiny_sizes(vocab_size=40, num_key_value_heads=2, num_local_experts=2))
    with pytest.raises(UserError, match="end with one linear layer, unlike those of MixtralForCausalLM"):
        attach_layers(MixtralForCausalLM(config).eval(), rank=4)


def test_models_without_feed_forward_blocks_are_refused() -> None:
    with pytest.raises(UserError, match=r"in every decoder layer, which Linear does not have"):
        feed_forward_blocks(torch.nn.Linear(2, 2))
