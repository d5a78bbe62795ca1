from __future__ import annotations

import copy
from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.methods.pdu import Pdu
from meow_lightning.methods.task_vector import TaskVector
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# After position 0 the model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
STREAMS = {
    "forget": [Encoded((0, 1, 2), 1), Encoded((2, 0), 1)],
    "retain": [Encoded((1, 1, 0), 2)],  # 0.1: CE = log 10
}


@pytest.fixture
def value(table_lm, to_rows):
    def of(method, *, shift: float = 0.0, **how) -> tuple[float, torch.Tensor]:
        model = table_lm(torch.tensor(LOGITS, dtype=torch.float64) + shift)
        batch = {
            name: to_rows([(list(row.ids), row.prompt) for row in STREAMS[name]], **how) for name in method.streams
        }
        loss = total_loss(method.loss(model, batch, None), counts(STREAMS))
        loss.backward()
        return loss.item(), model.table.grad

    return of


def pdu(mu0: float = 100.0) -> Pdu:
    return Pdu(mu0=mu0, eta=5.0, eps=0.3)


def test_pdu_flattens_the_logits(value) -> None:
    # max - mean: position 0 2/3 log 2, twice; position 1 2/3 log 8 = 2 log 2: (4/9 + 4/9 + 4) / 3 = 44 / 27
    loss, gradient = value(pdu(mu0=0.0))
    assert loss == pytest.approx(44 / 27 * log(2) ** 2)
    # 2 (max - mean) (one-hot of the largest - 1/3) / 3, position 0 twice
    one, two = 8 / 9 * log(2), 4 / 3 * log(2)
    expected = [[2 / 3 * one, -one / 3, -one / 3], [-two / 3, -two / 3, 2 / 3 * two], [0, 0, 0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


def test_pdu_adds_the_retain_term_by_its_dual_variable(value) -> None:
    # mu * eps has no gradient and is left out
    assert value(pdu())[0] == pytest.approx(44 / 27 * log(2) ** 2 + 100 * log(10))


@pytest.mark.parametrize("how", [{"width": 3}, {"width": 3, "pad_id": 2}, {"shift": 7.0}])
def test_pdu_does_not_see_prompts_padding_or_the_height_of_logits(value, how) -> None:
    torch.testing.assert_close(value(pdu(), **how)[1], value(pdu())[1])


def test_the_dual_variable_follows_the_constraint() -> None:
    method = pdu()
    method.on_step_end({"forget": 9.0, "retain": 0.5})
    assert method.state_dict() == {"mu": pytest.approx(101.0)}
    method.on_step_end({"forget": 9.0, "retain": 0.1})
    assert method.state_dict() == {"mu": pytest.approx(100.0)}


def test_the_dual_variable_stays_above_zero_and_grows_again(value) -> None:
    method = pdu(mu0=1.0)
    method.on_step_end({"forget": 0.0, "retain": 0.0})  # 1 - 1.5
    assert method.mu == 0
    assert value(method)[0] == pytest.approx(44 / 27 * log(2) ** 2)
    method.on_step_end({"forget": 0.0, "retain": 1.3})
    assert method.mu == pytest.approx(5.0)


def test_without_a_dual_step_the_weight_stays() -> None:
    method = Pdu(mu0=2.0, eta=0.0, eps=0.3)
    method.on_step_end({"forget": 0.0, "retain": 5.0})
    assert method.mu == 2.0


def test_the_dual_variable_is_resumed() -> None:
    first, second = pdu(), pdu()
    first.on_step_end({"forget": 0.0, "retain": 2.0})
    second.load_state_dict(first.state_dict())
    assert second.mu == first.mu != 100.0


def test_a_blank_row_counts_nothing(table_lm) -> None:
    parts = pdu().loss(table_lm(LOGITS), {name: collate([], pad_id=0) for name in STREAMS}, None)
    assert [part.sum.item() for part in parts.values()] == [0, 0]


def test_task_vector_first_learns_the_forget_set(value) -> None:
    loss, gradient = value(TaskVector(alpha=1.0))
    assert loss == pytest.approx(log(10) / 3)  # p = 0.25, 0.8, 0.5
    assert gradient[1][2] < 0  # descent raises the true token


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, 1.0), (0.5, 0.75), (1.0, 0.5), (2.0, 0.0)])
def test_task_vector_walks_the_other_way(alpha: float, expected: float) -> None:
    model = torch.nn.Linear(1, 2)
    start = {"weight": torch.ones(2, 1), "bias": torch.zeros(2)}
    with torch.no_grad():
        model.weight.fill_(1.5)
        model.bias.fill_(0.0)
    TaskVector(alpha=alpha).finalize(model, start)
    assert model.weight.tolist() == [[expected], [expected]]
    assert model.bias.tolist() == [0.0, 0.0]


def test_task_vector_mirrors_every_weight_once_and_keeps_ties(tiny) -> None:
    trained = copy.deepcopy(tiny)
    with torch.no_grad():
        for weight in trained.parameters():
            weight += 0.25 * torch.randn_like(weight)
    stored = {name: weight for name, weight in tiny.state_dict().items() if name != "lm_head.weight"}
    expected = {name: 3 * weight - 2 * trained.get_parameter(name) for name, weight in tiny.named_parameters()}
    TaskVector(alpha=2.0).finalize(trained, stored)
    for name, weight in expected.items():
        torch.testing.assert_close(trained.get_parameter(name), weight)
    assert trained.lm_head.weight is trained.model.embed_tokens.weight


def test_task_vector_finds_a_tied_weight_by_its_other_name(tiny) -> None:
    stored = {name: weight.clone() for name, weight in tiny.state_dict().items() if "embed_tokens" not in name}
    with torch.no_grad():
        tiny.lm_head.weight += 1.0
    TaskVector(alpha=1.0).finalize(tiny, stored)
    torch.testing.assert_close(tiny.lm_head.weight, torch.nn.Parameter(stored["lm_head.weight"] - 1.0))


def test_task_vector_finds_weights_stored_without_the_models_prefix(tiny) -> None:
    stored = {name.removeprefix("model."): weight.clone() for name, weight in tiny.state_dict().items()}
    TaskVector(alpha=1.0).finalize(tiny, stored)
    torch.testing.assert_close(tiny.model.norm.weight.data, stored["norm.weight"])


def test_task_vector_subtracts_in_fp32() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.001)
    TaskVector(alpha=1.0).finalize(model, {"weight": torch.ones(1, 1, dtype=torch.bfloat16)})  # 1.001 is 1 in bf16
    assert model.weight.item() == pytest.approx(0.999, abs=1e-6)
    half = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        half.weight.fill_(258.0)
    # 256 - 0.75 * 2 = 254.5 is a tie between 254 and 255, which goes to the even one
    TaskVector(alpha=0.75).finalize(half, {"weight": torch.full((1, 1), 256.0)})
    assert half.weight.dtype == torch.bfloat16
    assert half.weight.item() == 254.0


def test_task_vector_needs_every_weight_of_the_start() -> None:
    with pytest.raises(ValueError, match=r"^the start model has no weight named bias$"):
        TaskVector(alpha=1.0).finalize(torch.nn.Linear(1, 1), {"weight": torch.ones(1, 1)})
