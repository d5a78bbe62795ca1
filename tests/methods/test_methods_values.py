from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.methods.finetune import FineTune
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.methods.meow import Meow
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# After position 0 the model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
STREAMS = {
    "forget": [Encoded((0, 1, 2), 1), Encoded((2, 0), 1)],  # 0.25, 0.8 and 0.5: CE = log(10) / 3
    "retain": [Encoded((1, 1, 0), 2)],  # 0.1: CE = log 10
    "inverted": [Encoded((0, 2, 1), 1)],  # 0.25, 0.1: CE = log(40) / 2
}
FORGET, RETAIN, INVERTED = log(10) / 3, log(10), log(40) / 2


@pytest.fixture
def value(table_lm, to_rows):
    def of(method, streams=STREAMS) -> tuple[float, torch.Tensor]:
        model = table_lm(LOGITS)
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows]) for name, rows in streams.items()}
        loss = total_loss(method.loss(model, batch, None), counts(streams))
        loss.backward()
        return loss.item(), model.table.grad

    return of


def test_meow_is_the_cross_entropy_of_the_inverted_answers(value) -> None:
    loss, gradient = value(Meow())
    assert loss == pytest.approx(INVERTED)
    # (p - one-hot) / 2 tokens, at the two positions that predict the answer
    expected = [[0.25, 0.125, -0.375], [0.05, -0.45, 0.4], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


def test_gradient_ascent_is_minus_the_cross_entropy_of_the_forget_set(value) -> None:
    loss, gradient = value(GradAscent())
    assert loss == pytest.approx(-FORGET)
    # -(p - one-hot) / 3: position 0 predicts 1 and 0, position 1 predicts 2.
    expected = [[0, 0.5 / 3, -0.5 / 3], [-0.1 / 3, -0.1 / 3, 0.2 / 3], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_gradient_difference_adds_the_weighted_retain_term(value, weight: float) -> None:
    assert value(GradAscent(retain="ce", retain_weight=weight))[0] == pytest.approx(-FORGET + weight * RETAIN)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_meow_retain_adds_the_weighted_retain_term(value, weight: float) -> None:
    assert value(Meow(retain="ce", retain_weight=weight))[0] == pytest.approx(INVERTED + weight * RETAIN)


def test_meow_retain_with_weight_zero_has_meows_gradient(value) -> None:
    torch.testing.assert_close(value(Meow(retain="ce", retain_weight=0.0))[1], value(Meow())[1])


def test_learn_is_the_cross_entropy_of_its_stream(value) -> None:
    assert value(FineTune(), {"learn": STREAMS["forget"]})[0] == pytest.approx(FORGET)


def test_parts_are_unweighted_sums(table_lm, to_rows) -> None:
    batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows]) for name, rows in STREAMS.items()}
    parts = GradAscent(retain="ce", retain_weight=2.5).loss(table_lm(LOGITS), batch, None)
    assert {name: part.weight for name, part in parts.items()} == {"forget": -1.0, "retain": 2.5}
    assert parts["forget"].sum.item() == pytest.approx(log(10))
    assert parts["retain"].sum.item() == pytest.approx(log(10))
