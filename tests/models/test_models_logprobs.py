from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.methods.ceu import _unlikelihood
from meow_lightning.methods.losses import divergence, kl_divergence
from meow_lightning.methods.pdu import _peak
from meow_lightning.methods.undial import Undial
from meow_lightning.models import logprobs
from meow_lightning.models.blocks import blockwise
from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.heads import ScoredPlaces, ScoredStates, scored_states, separable_head
from meow_lightning.models.logprobs import answer_nll, negative_log_likelihood, scored_blocks, scored_logits
from meow_lightning.models.lora import with_lora, without_adapters
from meow_lightning.resources.logit_blocks import BLOCK, MIN_ROWS, WHOLE, rows_per_block

PAIRS = [([5, 6, 7, 8, 9], 2), ([9, 8, 7], 1), ([4, 4, 4, 4, 4, 4, 11], 3)]  # 3, 2 and 4 scored tokens
UNDIAL = Undial(beta=2.0)
# Functions of the methods, and how many frozen models each reads.
FUNCTIONS = [
    (negative_log_likelihood, 0), (divergence, 1), (_unlikelihood, 0), (_peak, 0),
    (UNDIAL._cross_entropy, 1),
]  # fmt: skip


@pytest.fixture
def blocks_of(monkeypatch):
    """Make every pass compute so many tokens at a time."""

    def choose(size: int | None) -> None:
        monkeypatch.setattr(logprobs, "rows_per_block", lambda positions, vocabulary: size)

    return choose


def head_of(weight, bias=None) -> torch.nn.Linear:
    """A head with these weights, in float64."""
    weight = torch.tensor(weight, dtype=torch.float64)
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    head.weight.data = weight
    if bias is not None:
        head.bias.data = torch.tensor(bias, dtype=torch.float64)
    return head


def test_values_and_gradients_by_hand() -> None:
    # z = h w with w = (log 1, log 2, log 5): p = (1/8, 2/8, 5/8) for h = 1, and (1/3, 1/3, 1/3) for h = 0.
    head = head_of([[0.0], [log(2)], [log(5)]])
    states = torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64, requires_grad=True)
    values = blockwise(negative_log_likelihood, ScoredStates(states, head), torch.tensor([2, 0, 1]), frozen=[], size=2)
    assert values.tolist() == pytest.approx([log(8 / 5), log(3), log(4)])
    values.backward(torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64))
    # dz = outer (p - onehot): (1, 2, -3)/8, 2 (-2, 1, 1)/3, -(1, -6, 5)/8; dh = dz w, dw = sum over tokens of dz h
    slope = [2 / 8 * log(2) - 3 / 8 * log(5), 2 / 3 * (log(2) + log(5)), 6 / 8 * log(2) - 5 / 8 * log(5)]
    assert states.grad.flatten().tolist() == pytest.approx(slope)
    assert head.weight.grad.flatten().tolist() == pytest.approx([0.0, 1.0, -1.0])


@given(st.integers(1, 9), st.integers(1, 11), st.sampled_from(FUNCTIONS), st.booleans(), st.integers(0, 99))
def test_blocks_agree_with_one_piece(tokens, size, case, biased, seed) -> None:
    function, others = case
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    heads = [head_of(draw(7, 4).tolist(), draw(7).tolist() if biased else None) for _ in range(1 + others)]
    states = [draw(tokens, 4).requires_grad_(number == 0) for number in range(1 + others)]
    ids, outer = torch.randint(7, (tokens,), generator=generator), draw(tokens)

    frozen = [head(each).detach() for head, each in zip(heads[1:], states[1:], strict=True)]
    plain = function(heads[0](states[0]), ids, *frozen)
    leaves = [states[0], *heads[0].parameters()]
    expected = torch.autograd.grad(plain, leaves, outer)
    scored = [ScoredStates(each, head) for each, head in zip(states, heads, strict=True)]
    values = blockwise(function, scored[0], ids, frozen=scored[1:], size=size)
    torch.testing.assert_close(values, plain)
    torch.testing.assert_close(torch.autograd.grad(values, leaves, outer), expected)


@pytest.mark.parametrize("size", [1, 2, 4, 100])
def test_a_model_gives_the_same_loss_and_gradients_in_blocks(tiny, to_rows, blocks_of, size) -> None:
    found = {}
    for way in (None, size):
        blocks_of(way)
        tiny.zero_grad()
        nll = answer_nll(tiny, to_rows(PAIRS))
        (nll**2).sum().backward()
        found[way] = [nll, *(weight.grad.clone() for weight in tiny.parameters())]
    torch.testing.assert_close(found[size], found[None], rtol=1e-4, atol=1e-5)


def test_mixed_precision_computes_blocks_in_bf16_and_gives_gradients_in_fp32(tiny, to_rows, blocks_of) -> None:
    blocks_of(2)
    exact = answer_nll(tiny, to_rows(PAIRS))
    with torch.autocast("cpu", torch.bfloat16):
        nll = answer_nll(tiny, to_rows(PAIRS))
        nll.sum().backward()
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, exact, rtol=0.02, atol=0.02)
    assert not torch.equal(nll, exact)
    assert {weight.grad.dtype for weight in tiny.parameters()} == {torch.float32}


def test_a_frozen_head_gets_no_gradient(tiny, to_rows, blocks_of) -> None:
    blocks_of(2)
    tiny.requires_grad_(False)
    norm = tiny.model.norm.weight.requires_grad_(True)
    answer_nll(tiny, to_rows(PAIRS)).sum().backward()
    assert norm.grad.abs().sum() > 0
    assert tiny.lm_head.weight.grad is None


def test_a_blank_row_has_a_gradient_of_zero(tiny, to_rows, blocks_of) -> None:
    blocks_of(2)
    rows = to_rows([([5, 6, 7], 1)])
    blank = rows._replace(loss_mask_BT=torch.zeros_like(rows.loss_mask_BT))
    answer_nll(tiny, blank).sum().backward()
    assert all(weight.grad.abs().sum() == 0 for weight in tiny.parameters())


def test_the_head_sees_scored_tokens_alone(tiny, to_rows, blocks_of) -> None:
    rows = to_rows(PAIRS)
    states, head = scored_states(tiny, rows, ScoredPlaces.of(rows))
    assert (states.shape, head) == ((9, 16), tiny.lm_head)
    torch.testing.assert_close(head(states), scored_logits(tiny, to_rows(PAIRS))[0])


def test_logits_that_change_after_the_head_are_taken_whole(tiny, to_rows, blocks_of) -> None:
    class Capped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny

        def get_output_embeddings(self) -> torch.nn.Module:
            return self.inner.lm_head

        def forward(self, **given):
            output = self.inner(**given)
            output.logits = output.logits.tanh()
            return output

    capped = Capped()
    assert separable_head(capped) is None
    blocks_of(None)
    whole = answer_nll(capped, to_rows(PAIRS))
    blocks_of(2)
    nll = answer_nll(capped, to_rows(PAIRS))
    torch.testing.assert_close(nll, whole)
    nll.sum().backward()
    assert tiny.lm_head.weight.grad.abs().sum() > 0


def test_the_trial_of_a_head_leaves_dropout_alone(tiny) -> None:
    adapted = with_lora(tiny, rank=2, alpha=4, dropout=0.5, seed=0).train()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert separable_head(adapted) is tiny.lm_head
    assert torch.equal(torch.rand(1), expected)
    assert adapted.training


def test_adapters_and_their_absence_share_a_head(tiny, to_rows, blocks_of) -> None:
    adapted = with_lora(tiny, rank=2, alpha=4, dropout=0.0, seed=0)
    torch.nn.init.normal_(next(each for name, each in adapted.named_parameters() if "lora_B" in name))
    found = []
    for size in (None, 2):
        blocks_of(size)
        found.append(kl_divergence(adapted, FrozenView(adapted, without_adapters), to_rows(PAIRS)))
    assert found[0] > 0
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("size", [None, 2])
def test_logits_without_gradient_come_in_blocks(tiny, to_rows, blocks_of, size) -> None:
    blocks_of(size)
    with torch.no_grad():
        blocks = list(scored_blocks(tiny, to_rows(PAIRS), size=lambda states, vocabulary: 4))
    assert [len(block) for block in blocks] == [4, 4, 1]
    torch.testing.assert_close(torch.cat(blocks), scored_logits(tiny, to_rows(PAIRS))[0])


def test_small_models_stay_in_one_piece() -> None:
    # the tiny model: a vocabulary of 2,048, a context of 256, 64 rows per pass
    assert rows_per_block(64 * 256, 2048) is None
    assert rows_per_block(64 * 256 + 1, 2048) == BLOCK // 2048
    assert rows_per_block(1, 49_152) == BLOCK // 49_152 == 341
    assert rows_per_block(1, BLOCK) == MIN_ROWS
    assert WHOLE == 64 * 256 * 2048
