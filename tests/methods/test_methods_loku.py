from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.methods.loku import Loku, inverted_hinge
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

LOGITS = [log(0.6), log(0.3), log(0.1)]


@pytest.mark.parametrize(
    ("token", "loss", "gradient"),
    [
        (0, 1.3, (0.42, -0.39, -0.03)),
        (1, 0.7, (-0.42, 0.39, 0.03)),  # another token is preferred already; descent raises it further
        (2, 0.5, (-0.30, 0.15, 0.15)),
    ],
)
def test_worked_values(token: int, loss: float, gradient: tuple[float, ...]) -> None:
    logits = torch.tensor([LOGITS], dtype=torch.float64, requires_grad=True)
    value = inverted_hinge(logits, torch.tensor([token]))
    assert value.tolist() == pytest.approx([loss])
    value.sum().backward()
    assert logits.grad.tolist()[0] == pytest.approx(gradient)


def test_logits_between_0_and_1_are_no_probabilities() -> None:
    value = inverted_hinge(torch.tensor([[0.9, 0.5, 0.1]], dtype=torch.float64), torch.tensor([0]))
    assert value.item() == pytest.approx(1.155535, abs=1e-6)  # 1.4 if they were taken for such


@pytest.mark.parametrize(("logits", "loss"), [([50.0, 0.0, 0.0], 2.0), ([0.0, 50.0, 0.0], 0.0)])
def test_the_loss_is_bounded(logits: list[float], loss: float) -> None:
    assert inverted_hinge(torch.tensor([logits]), torch.tensor([0])).item() == pytest.approx(loss)


def test_a_token_that_is_forgotten_is_left_alone() -> None:
    logits = torch.tensor([[-10.0, 3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    inverted_hinge(logits, torch.tensor([0])).sum().backward()
    assert logits.grad[0, 0].abs() < 1e-4


@pytest.mark.parametrize("width", [None, 9])
def test_the_loss_is_the_mean_over_all_forget_tokens_and_the_retain_cross_entropy(table_lm, to_rows, width) -> None:
    forget, retain = [Encoded((2, 0, 1), 1), Encoded((1, 2), 1)], [Encoded((0, 2), 1)]
    rows = {
        name: to_rows([(list(row.ids), row.prompt) for row in each], width=width)
        for name, each in (("forget", forget), ("retain", retain))
    }
    model = table_lm([LOGITS] * 3)
    denominators = counts({"forget": forget, "retain": retain})
    loss = total_loss(Loku(retain="ce", retain_weight=0.5).loss(model, rows, None), denominators)
    assert loss.item() == pytest.approx((1.3 + 0.7 + 0.5) / 3 - 0.5 * log(0.1))
