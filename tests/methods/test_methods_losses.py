from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.collate import collate
from meow_lightning.methods.losses import cross_entropy
from meow_lightning.models.logprobs import answer_nll, scored_logits
from meow_lightning.types import TokenBatch

# What is predicted after position 0, 1 and 2, over three tokens.
P = [[0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]
LOGITS = [[log(p) for p in row] for row in P]


def test_nll_is_minus_the_log_of_the_chosen_probability(table_lm, to_rows) -> None:
    # Row 2,1,1,2 with a prompt of 1: its three answer tokens are predicted at positions 0, 1, 2: 0.2, 0.25, 0.8.
    nll = answer_nll(table_lm(LOGITS), to_rows([([2, 1, 1, 2], 1)]))
    assert nll.tolist() == [pytest.approx([0.0, -log(0.2), -log(0.25), -log(0.8)], abs=1e-12)]


def test_cross_entropy_is_a_sum_with_its_weight(table_lm, to_rows) -> None:
    # -log 0.25 - log 0.8 = log 5
    part = cross_entropy(table_lm(LOGITS), to_rows([([2, 1, 1, 2], 2)]), stream="s", weight=-3.0)
    assert part.sum.item() == pytest.approx(log(5))
    assert (part.stream, part.per, part.weight) == ("s", "token", -3.0)


def test_gradient_is_softmax_minus_one_hot(table_lm, to_rows) -> None:
    model = table_lm(LOGITS)
    cross_entropy(model, to_rows([([2, 1, 1, 2], 2)]), stream="s", weight=1.0).sum.backward()
    # Position 1 predicts token 1, position 2 token 2; 0 and 3 predict nothing scored.
    expected = [[0, 0, 0], [0.5, -0.75, 0.25], [0.1, 0.1, -0.2], [0, 0, 0]]
    torch.testing.assert_close(model.table.grad, torch.tensor(expected, dtype=torch.float64))


def test_rows_with_different_prompts_are_not_mixed_up(table_lm, to_rows) -> None:
    # Row 0 scores positions 1..2 (targets 0, 2), row 1 only position 3 (target 1): three columns, four tokens.
    model = table_lm(LOGITS)
    rows = to_rows([([1, 0, 2], 1), ([0, 0, 0, 1], 3)])
    nll = answer_nll(model, rows)
    expected = [[0, -log(0.7), -log(0.25), 0], [0, 0, 0, -log(0.1)]]
    torch.testing.assert_close(nll, torch.tensor(expected, dtype=torch.float64))
    assert model.calls[0]["columns"].tolist() == [0, 1, 2]


def test_head_runs_only_where_something_is_scored(table_lm, to_rows) -> None:
    model = table_lm(LOGITS)
    scored_logits(model, to_rows([([0, 0, 0, 1], 3)]))
    assert model.calls[0]["columns"].tolist() == [2]


def test_padding_changes_nothing(table_lm, to_rows) -> None:
    model = table_lm([*LOGITS, *LOGITS])
    narrow = answer_nll(model, to_rows([([2, 1, 1, 2], 1)]))
    wide = answer_nll(model, to_rows([([2, 1, 1, 2], 1)], width=7, pad_id=1))
    assert torch.equal(wide[:, :4], narrow)
    assert wide[:, 4:].abs().sum() == 0


def test_padding_changes_nothing_for_a_real_model(tiny, to_rows) -> None:
    tiny.double()
    alone = answer_nll(tiny, to_rows([([5, 6, 7, 8], 2)]))
    beside = answer_nll(tiny, to_rows([([5, 6, 7, 8], 2), ([9] * 9, 4)], pad_id=1))
    torch.testing.assert_close(beside[0, :4], alone[0], atol=1e-12, rtol=0)


def test_padding_before_a_row_changes_nothing_for_a_real_model(tiny) -> None:
    tiny.double()
    right = TokenBatch(
        torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=int), torch.tensor([[0, 0, 1, 1]]), torch.zeros(1)
    )
    left = TokenBatch(
        torch.tensor([[1, 1, 5, 6, 7, 8]]), torch.tensor([[0, 0, 1, 1, 1, 1]]), torch.tensor([[0, 0, 0, 0, 1, 1]]),
        torch.zeros(1),
    )  # fmt: skip
    torch.testing.assert_close(answer_nll(tiny, left)[:, 2:], answer_nll(tiny, right), atol=1e-12, rtol=0)


def test_longer_prompt_changes_nothing_when_its_predictions_stay(table_lm, to_rows) -> None:
    short = answer_nll(table_lm(LOGITS[1:]), to_rows([([2, 1, 2], 1)])).sum()
    long = answer_nll(table_lm(LOGITS), to_rows([([0, 2, 1, 2], 2)])).sum()
    assert long.item() == pytest.approx(short.item(), abs=1e-12)


def test_prompt_ids_do_not_matter_when_the_predictions_stay(table_lm, to_rows) -> None:
    model = table_lm(LOGITS)
    assert torch.equal(answer_nll(model, to_rows([([2, 1, 0, 1], 2)])), answer_nll(model, to_rows([([0, 0, 0, 1], 2)])))


def test_first_token_cannot_be_scored(table_lm, to_rows) -> None:
    with pytest.raises(ValueError, match="the first token of a row cannot be scored: nothing precedes it"):
        answer_nll(table_lm(LOGITS), to_rows([([1, 2, 0], 1), ([1, 2, 0], 0)]))


def test_blank_rows_give_zero_with_a_gradient_of_zero(table_lm, tiny) -> None:
    for model in (table_lm(LOGITS), tiny):
        part = cross_entropy(model, collate([], pad_id=1), stream="s", weight=1.0)
        part.sum.backward()
        assert part.sum.item() == 0
        assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def test_bf16_logits_are_upcast_before_the_softmax(table_lm, to_rows) -> None:
    rows = to_rows([([2, 1, 1, 2], 1)])
    model = table_lm(LOGITS, torch.bfloat16)
    logits, ids = scored_logits(model, rows)
    assert logits.dtype == torch.float32
    assert ids.tolist() == [1, 1, 2]
    exact = answer_nll(table_lm(model.table.detach().double()), rows)  # the same rounded table in fp64
    torch.testing.assert_close(answer_nll(model, rows).double(), exact, atol=1e-6, rtol=0)


def test_fp64_stays_fp64(table_lm, to_rows) -> None:
    assert answer_nll(table_lm(LOGITS), to_rows([([2, 1], 1)])).dtype == torch.float64
