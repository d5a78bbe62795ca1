from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.methods.bst import Bst
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

PROBABILITIES = [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.4, 0.4, 0.2], [1 / 3] * 3]  # after positions 0 to 3
ROW = Encoded((2, 1), 1)  # the true token has 0.3; the two likeliest are (2/3 1/3 0)


@pytest.fixture
def value(table_lm, to_rows):
    def of(belief_weight: float, top_k: int, rows=(ROW,), **how) -> tuple[float, torch.Tensor]:
        model = table_lm(torch.tensor(PROBABILITIES, dtype=torch.float64).log())
        batch = {"forget": to_rows([(list(row.ids), row.prompt) for row in rows], **how)}
        loss = total_loss(
            Bst(belief_weight=belief_weight, top_k=top_k).loss(model, batch, None), counts({"forget": rows})
        )
        loss.backward()
        return loss.item(), model.table.grad

    return of


def test_value_of_one_token(value) -> None:
    by_hand = 0.2 * (2 / 3 * log(0.6) + 1 / 3 * log(0.3)) + 0.8 * log(0.3)
    assert value(0.2, 2)[0] == pytest.approx(by_hand)
    assert by_hand == pytest.approx(-1.111554, abs=1e-6)


def test_gradient_pushes_at_the_true_token_and_at_beliefs(value) -> None:
    # q - p with q = 0.2 (2/3 1/3 0) + 0.8 (0 1 0); the belief itself gets no gradient
    expected = torch.tensor([0.4 / 3 - 0.6, 0.2 / 3 + 0.8 - 0.3, -0.1], dtype=torch.float64)
    torch.testing.assert_close(value(0.2, 2)[1][0], expected)


def test_without_beliefs_it_is_gradient_ascent(value) -> None:
    loss, gradient = value(0.0, 2)
    assert loss == pytest.approx(log(0.3))
    torch.testing.assert_close(gradient[0], torch.tensor([-0.6, 0.7, -0.1], dtype=torch.float64))


def test_beliefs_alone_over_all_tokens_move_nothing(value) -> None:
    assert value(1.0, 100)[1].abs().max() < 1e-15
    assert value(1.0, 1)[1][0].tolist() == pytest.approx([0.4, -0.3, -0.1])  # the likeliest token is pushed down


def test_a_long_answer_counts_like_a_short_one(value) -> None:
    # 0.7 after position 1 and 0.4 after position 2: the mean of its tokens, then that of the rows
    long = Encoded((0, 2, 1, 0), 2)
    expected = (log(0.3) + (log(0.7) + log(0.4)) / 2) / 2
    for how in ({}, {"width": 6, "pad_id": 1}):
        assert value(0.0, 2, (ROW, long), **how)[0] == pytest.approx(expected)
