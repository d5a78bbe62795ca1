from __future__ import annotations

import copy
import re

import pytest
import torch
from helpers.models import tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel

from meow_lightning.errors import UserError
from meow_lightning.models.masks import EXAMPLE, ScoredMask, apply_masks, attach_masks, masks


def bits(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def attach(model: torch.nn.Module, *, share: float = 0.3, seed: int = 0, pattern: str = EXAMPLE) -> None:
    attach_masks(model, pattern, share=share, seed=seed)


def test_by_hand() -> None:
    mask = ScoredMask(torch.tensor([[0.1, -0.4], [0.2, 0.3]]), switched_off=2)
    weight = torch.tensor([[1.0, 2.0], [3.0, -4.0]], requires_grad=True)
    assert mask.off().tolist() == [[True, False], [True, False]]
    masked = mask(weight)
    assert masked.tolist() == [[0.0, 2.0], [0.0, -4.0]]
    masked.sum().backward()  # straight through to |s|: dL/ds = sign(s) * weight
    assert mask.scores.grad.tolist() == [[1.0, -2.0], [3.0, -4.0]]


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_of_equal_scores_as_many_as_asked_are_switched_off_the_first_ones(count: int) -> None:
    off = ScoredMask(torch.tensor([[0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]), switched_off=count).off()
    assert off.flatten().tolist() == [True] * count + [False] * (6 - count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_feed_forward_matrix_loses_its_share_and_all_else_keeps_its_bits(dtype: torch.dtype) -> None:
    model = tiny_llama(seed=0).to(dtype)
    before = bits(model)
    attach(model)
    apply_masks(model)
    after = bits(model)
    assert before.keys() == after.keys()
    for name, weight in after.items():
        changed = weight != before[name]
        assert changed.sum() == (int(0.3 * weight.numel()) if ".mlp." in name else 0)
        assert not weight[changed].any()
        assert not torch.signbit(weight[changed]).any()
        assert torch.equal(weight[~changed], before[name][~changed])


def test_masks_in_place_answer_as_masks_applied_and_a_second_call_keeps_them() -> None:
    model, ids = tiny_llama(seed=0), torch.arange(12)[None]
    attach(model)
    scores = [mask.scores for _, mask in masks(model)]
    attach(model, seed=1)
    assert [mask.scores for _, mask in masks(model)] == scores
    with torch.no_grad():
        masked = model(input_ids=ids).logits
        apply_masks(model)
        assert not list(masks(model))
        torch.testing.assert_close(model(input_ids=ids).logits, masked, rtol=0, atol=0)


def test_the_seed_alone_decides_the_initial_scores() -> None:
    model = tiny_llama(seed=0)
    others = [copy.deepcopy(model) for _ in range(2)]
    torch.manual_seed(5)
    attach(model)
    attach(others[0])
    attach(others[1], seed=1)
    (_, first), (_, same), (_, other) = (next(masks(each)) for each in (model, *others))
    assert torch.equal(first.scores, same.scores)
    assert not torch.equal(first.scores, other.scores)
    assert first.scores.abs().max() <= 1 / 32**0.5  # the matrix has 32 inputs


def test_gpt2s_transposed_layers_are_masked_too() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=40, n_positions=16))
    attach(model, share=0.5)
    apply_masks(model)
    block = model.transformer.h[0]
    assert ((block.mlp.c_fc.weight == 0).sum(), (block.attn.c_attn.weight == 0).sum()) == (16 * 64 // 2, 0)


def test_a_pattern_without_matrices_is_an_error_that_lists_the_models_modules() -> None:
    with pytest.raises(UserError, match=r"method\.target_modules=mlp is invalid") as error:
        attach(tiny_llama(seed=0), pattern="mlp")
    assert "model.layers.N.mlp.up_proj" in str(error.value)
    suggested = str(error.value).partition("Did you mean ")[2].rstrip("?")
    assert suggested == "" or any(re.fullmatch(suggested, name) for name, _ in tiny_llama(seed=0).named_modules())


def test_a_share_below_one_entry_is_an_error() -> None:
    with pytest.raises(UserError, match=r"method\.share=1e-09 is less than one entry"):
        attach(tiny_llama(seed=0), share=1e-9)
