from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.methods.ceu import CEU
from meow_lightning.methods.undial import Undial
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# After position 0 the start model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
ROWS = [Encoded((0, 1, 2), 1), Encoded((2, 0), 1)]  # position 0 predicts 1 and 0, position 1 predicts 2


@pytest.fixture
def value(table_lm, to_rows):
    def of(method, logits=LOGITS, **how) -> tuple[float, torch.Tensor]:
        model, start = table_lm(logits), table_lm(LOGITS)
        rows = to_rows([(list(row.ids), row.prompt) for row in ROWS], **how)
        loss = total_loss(method.loss(model, {"forget": rows}, start), counts({"forget": ROWS}))
        loss.backward()
        assert start.table.grad is None
        return loss.item(), model.table.grad

    return of


# With beta = log 2 the true token's probability is halved: (4 1 2) / 7 for 1, (1 1 1) / 3 for 0, (1 1 4) / 6 for 2.
HALVED = [[4 / 7, 1 / 7, 2 / 7], [1 / 3, 1 / 3, 1 / 3], [1 / 6, 1 / 6, 4 / 6]]


def test_undial_is_the_cross_entropy_to_the_turned_down_start_model(value) -> None:
    # 4/7 log 2 + 3/7 log 4; (log 2 + 2 log 4) / 3; 2/6 log 10 + 4/6 log 1.25
    expected = 10 / 7 * log(2) + 5 / 3 * log(2) + log(10) / 3 + 2 / 3 * log(1.25)
    assert value(Undial(beta=log(2)))[0] == pytest.approx(expected / 3)


def test_gradient_leads_to_the_target(value) -> None:
    loss, gradient = value(Undial(beta=log(2)), [[0.0] * 3] * 3)
    assert loss == pytest.approx(log(3))
    first = [(2 / 3 - HALVED[0][v] - HALVED[1][v]) / 3 for v in range(3)]
    second = [(1 / 3 - HALVED[2][v]) / 3 for v in range(3)]
    torch.testing.assert_close(gradient, torch.tensor([first, second, [0, 0, 0]], dtype=torch.float64))


def test_without_turning_down_the_start_model_stays(value) -> None:
    assert value(Undial(beta=0.0))[1].abs().max() < 1e-15


def test_far_down_the_first_step_is_that_of_ceu(value, table_lm, to_rows) -> None:
    model = table_lm(LOGITS)
    rows = to_rows([(list(row.ids), row.prompt) for row in ROWS])
    CEU(skip_first=False).loss(model, {"forget": rows}, None)["forget"].sum.backward()
    torch.testing.assert_close(value(Undial(beta=200.0))[1], model.table.grad / 3)


def test_prompts_and_padding_do_not_count(value) -> None:
    # Published code turns down entry V - 100 there, and fails for a vocabulary of three.
    narrow, wide = value(Undial(beta=10.0)), value(Undial(beta=10.0), width=3, pad_id=1)
    assert wide[0] == pytest.approx(narrow[0], abs=1e-15)
    torch.testing.assert_close(wide[1], narrow[1])
    assert not wide[1][2].any()  # what the last position predicts is no answer


def test_a_blank_row_counts_nothing(table_lm) -> None:
    model = table_lm(LOGITS)
    part = Undial(beta=10.0).loss(model, {"forget": collate([], pad_id=0)}, table_lm(LOGITS))["forget"]
    part.sum.backward()
    assert part.sum.item() == 0
    assert not model.table.grad.any()


def test_the_start_model_is_needed(table_lm, to_rows) -> None:
    with pytest.raises(TypeError, match=r"^UNDIAL needs the start model: the method's reference must be 'model'$"):
        Undial(beta=1.0).loss(table_lm(LOGITS), {"forget": to_rows([([0, 1], 1)])}, None)
