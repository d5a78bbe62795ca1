from __future__ import annotations

import copy
from math import log, sqrt

import pytest
import torch
from helpers.model_families import MAKERS
from transformers import AutoModelForCausalLM

from meow_lightning.evaluation import gradient
from meow_lightning.evaluation.gradient import gradient_cosines, gradient_norms
from meow_lightning.types import Encoded

ROWS = [Encoded((3, 4, 5, 6, 7, 9), 2), Encoded((9, 8, 7, 1), 3), Encoded((5, 5, 5, 6), 1)]


def model_of(name: str, *, tied: bool, dtype: torch.dtype = torch.float64):
    config = MAKERS[name](("Who was born in Lima?",)).config
    config.tie_word_embeddings = tied
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).to(dtype).eval()


@pytest.fixture
def llama():
    return model_of("llama2_7b_chat", tied=True)


def norms(model, rows, *, pad_id: int = 0, mask_pad_ids: bool = False):
    return gradient_norms(model, rows, pad_id=pad_id, mask_pad_ids=mask_pad_ids)


def by_hand(model, row: Encoded, mask: list[int] | None = None) -> float:
    """The norm of all gradients at once, without anything of the package."""
    weights = list({id(weight): weight for weight in model.parameters()}.values())
    ids = torch.tensor([row.ids])
    seen = torch.tensor([mask or [1] * len(row.ids)])
    logps = model(ids, attention_mask=seen, use_cache=False).logits[0].log_softmax(-1)
    scored = [logps[place - 1, row.ids[place]] for place in range(row.prompt, len(row.ids))]
    found = torch.autograd.grad(-sum(scored) / len(scored), weights, allow_unused=True)
    return sqrt(sum(each.square().sum().item() for each in found if each is not None))


def clean(model) -> bool:
    """Whether no gradient and no hook is left."""
    return all(weight.grad is None and not weight._post_accumulate_grad_hooks for weight in model.parameters())


def test_numbers_by_hand(table_lm) -> None:
    # After position 0: 1/2 1/4 1/4, after position 1: .1 .1 .8. The answer is 1, then 2; the gradient by the logits is
    # (p - what was said) / 2: (.5 -.75 .25) / 2 and (.1 .1 -.2) / 2, its squares .875 / 4 and .06 / 4.
    model = table_lm([[log(p) for p in each] for each in ((0.5, 0.25, 0.25), (0.1, 0.1, 0.8), (1.0, 1.0, 1.0))])
    ((index, norm),) = norms(model, [Encoded((0, 1, 2), 1)])
    assert (index, norm) == (0, pytest.approx(sqrt(0.935) / 2, rel=1e-12))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama2_7b_chat", "phi15"])
def test_equals_the_gradient_of_the_whole_model(name: str, tied: bool) -> None:
    model = model_of(name, tied=tied)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    found = list(norms(model, ROWS))
    assert [index for index, _ in found] == [0, 1, 2]
    for index, norm in found:
        assert norm == pytest.approx(by_hand(model, ROWS[index]), rel=1e-10)


def test_tokens_equal_to_padding_are_masked_on_demand(llama) -> None:
    row = Encoded((3, 0, 5, 6, 7), 3)
    ((_, seen),) = norms(llama, [row])
    ((_, hidden),) = norms(llama, [row], mask_pad_ids=True)
    assert seen == pytest.approx(by_hand(llama, row), rel=1e-10)
    assert hidden == pytest.approx(by_hand(llama, row, [1, 0, 1, 1, 1]), rel=1e-10)
    assert hidden != pytest.approx(seen, rel=1e-6)


def test_neither_neighbours_nor_pieces_matter(llama, monkeypatch) -> None:
    together = dict(norms(llama, ROWS))
    assert [norm for row in ROWS for _, norm in norms(llama, [row])] == list(together.values())
    monkeypatch.setattr(gradient, "CPU_BLOCK", 7)
    assert dict(norms(llama, ROWS)) == pytest.approx(together, rel=1e-12)


def test_frozen_weights_count_and_stay_frozen(llama) -> None:
    every = dict(norms(llama, ROWS))
    names = [name for name, _ in llama.named_parameters()]
    for name, weight in llama.named_parameters():
        weight.requires_grad_(name == names[1])
    assert dict(norms(llama, ROWS)) == every
    assert [name for name, weight in llama.named_parameters() if weight.requires_grad] == names[1:2]
    assert clean(llama)


def test_one_gradient_at_a_time(llama, monkeypatch) -> None:
    held: list[int] = []
    squares = gradient._squares

    def count(one: torch.Tensor) -> torch.Tensor:
        held.append(sum(weight.grad is not None for weight in llama.parameters()))
        return squares(one)

    monkeypatch.setattr(gradient, "_squares", count)
    list(norms(llama, ROWS[:2]))
    assert held == [1] * 2 * len(list(llama.parameters()))


def test_nothing_is_left_behind(llama) -> None:
    before = copy.deepcopy(llama.state_dict())
    next(llama.parameters()).grad = torch.ones_like(next(llama.parameters()))  # somebody's, from before
    found = dict(norms(llama, ROWS[:1]))
    assert found[0] == pytest.approx(by_hand(llama, ROWS[0]), rel=1e-10)
    assert clean(llama)
    assert not llama.training
    assert all(torch.equal(value, before[name]) for name, value in llama.state_dict().items())


def test_a_broken_pass_leaves_nothing_behind(llama, monkeypatch) -> None:
    weights = list(llama.parameters())
    weights[0].requires_grad_(False)

    def fail(one: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError("broken")

    monkeypatch.setattr(gradient, "_squares", fail)
    with pytest.raises(ArithmeticError, match="broken"):
        list(norms(llama, ROWS))
    assert clean(llama)
    assert [weight.requires_grad for weight in weights] == [False] + [True] * (len(weights) - 1)


def test_stopping_early_restores_the_model(llama) -> None:
    llama.requires_grad_(False)
    found = norms(llama, ROWS)
    next(found)
    assert torch.is_grad_enabled()
    found.close()
    assert clean(llama)
    assert not any(weight.requires_grad for weight in llama.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_mode_neither_matters_nor_changes(llama, mode) -> None:
    plain = dict(norms(llama, ROWS))
    with mode():
        assert dict(norms(llama, ROWS)) == plain
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    assert torch.is_grad_enabled()


def test_bf16_weights_give_numbers_near_those_of_fp64(llama) -> None:
    exact = dict(norms(llama, ROWS))
    rounded = dict(norms(llama.to(torch.bfloat16), ROWS))
    assert rounded == pytest.approx(exact, rel=0.05)
    assert all(torch.tensor(norm).bfloat16().item() != norm for norm in rounded.values())  # added up in more digits


def test_no_rows_touch_nothing(llama) -> None:
    first = next(llama.parameters())
    first.grad = torch.ones_like(first)
    assert list(norms(llama, [])) == []
    assert first.grad is not None and bool((first.grad == 1).all())


def test_cosines_by_hand(table_lm) -> None:
    # After position 0: 1/2 1/4 1/4. The gradients by its logits are (.5 -.75 .25) for the answer 1 and (.5 .25 -.75)
    # for the answer 2: product -.125, squares .875. The third row is scored at position 1, whose logits are others.
    model = table_lm([[log(p) for p in each] for each in ((0.5, 0.25, 0.25), (0.1, 0.1, 0.8), (1.0, 1.0, 1.0))])
    found = gradient_cosines(model, [Encoded((0, 1), 1), Encoded((0, 2), 1), Encoded((0, 1, 0), 2)], pad_id=0)
    expected = [[1.0, -1 / 7, 0.0], [-1 / 7, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert found == [pytest.approx(row, abs=1e-12) for row in expected]
    assert clean(model)


def test_cosines_of_a_model_leave_it_as_it_was(llama) -> None:
    frozen = next(llama.parameters()).requires_grad_(False)
    found = gradient_cosines(llama, [ROWS[0], ROWS[0], ROWS[1]], pad_id=0)
    assert found[0][1] == pytest.approx(1.0, rel=1e-12)
    assert found[0][2] == found[2][0] == pytest.approx(found[1][2], rel=1e-12)
    assert -1 < found[0][2] < 1
    assert clean(llama)
    assert not frozen.requires_grad
