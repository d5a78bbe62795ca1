from __future__ import annotations

from math import log

import pytest
import torch

from meow_lightning.data.batch_plan import counts
from meow_lightning.data.collate import collate
from meow_lightning.methods.ceu import CEU
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.methods.satimp import SatImp
from meow_lightning.methods.wga import Wga
from meow_lightning.training.module import total_loss
from meow_lightning.types import Encoded

# After position 0 the model says 0.5 0.25 0.25, after position 1 it says 0.1 0.1 0.8.
LOGITS = [[log(0.5), log(0.25), log(0.25)], [log(0.1), log(0.1), log(0.8)], [0.0, 0.0, 0.0]]
STREAMS = {
    "forget": [Encoded((0, 1, 2), 1), Encoded((2, 0), 1)],  # p = 0.25, 0.8 and 0.5, three tokens
    "retain": [Encoded((1, 1, 0), 2)],  # p = 0.1: CE = log 10
}


@pytest.fixture
def value(table_lm, to_rows):
    def of(method, logits=LOGITS, dtype=torch.float64, **how) -> tuple[float, torch.Tensor]:
        model = table_lm(logits, dtype)
        batch = {name: to_rows([(list(row.ids), row.prompt) for row in rows], **how) for name, rows in STREAMS.items()}
        loss = total_loss(method.loss(model, batch, None), counts(STREAMS))
        loss.backward()
        return loss.item(), model.table.grad

    return of


def near(found: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def methods():
    return [
        Wga(beta=1.0, retain_weight=0.0), SatImp(beta1=5.0, beta2=1.0, forget_weight=0.1, retain_weight=0.0),
        CEU(skip_first=True), CEU(skip_first=False),
    ]  # fmt: skip


@pytest.mark.parametrize("method", methods(), ids=lambda each: type(each).__name__)
def test_neither_padding_nor_a_blank_row_counts(value, table_lm, method) -> None:
    narrow, wide = value(method), [value(method, width=3), value(method, width=3, pad_id=2)]
    assert all(other[0] == pytest.approx(narrow[0], abs=1e-15) for other in wide)
    model = table_lm(LOGITS)
    parts = method.loss(model, {name: collate([], pad_id=0) for name in STREAMS}, None)
    assert parts["forget"].sum.item() == 0
    parts["forget"].sum.backward()
    assert not model.table.grad.any()


def test_weighted_ascent_lowers_the_probabilities(value) -> None:
    # beta 1: ((0.25 - 1) + (0.8 - 1) + (0.5 - 1)) / 3; beta 2: (0.0625 + 0.64 + 0.25 - 3) / 2 / 3
    assert value(Wga(beta=1.0, retain_weight=0.0))[0] == pytest.approx(-1.45 / 3)
    assert value(Wga(beta=2.0, retain_weight=0.0))[0] == pytest.approx(-2.0475 / 6)
    assert value(Wga(beta=1.0, retain_weight=2.0))[0] == pytest.approx(-1.45 / 3 + 2 * log(10))


def test_gradient_of_weighted_ascent_is_the_published_one(value) -> None:
    # -p * (softmax - one-hot) / 3: position 0 predicts 1 (p = 0.25) and 0 (p = 0.5), position 1 predicts 2 (p = 0.8)
    expected = [
        [(-0.25 * 0.5 + 0.5 * 0.5) / 3, (0.25 * 0.75 - 0.5 * 0.25) / 3, (-0.25 * 0.25 - 0.5 * 0.25) / 3],
        [-0.08 / 3, -0.08 / 3, 0.16 / 3], [0, 0, 0],
    ]  # fmt: skip
    near(value(Wga(beta=1.0, retain_weight=0.0))[1], expected)


def test_weighted_ascent_without_power_is_gradient_ascent(value) -> None:
    plain, tiny_power, none = (
        value(each) for each in (GradAscent(), Wga(beta=1e-7, retain_weight=0.0), Wga(beta=0.0, retain_weight=0.0))
    )
    assert none[0] == plain[0]
    assert torch.equal(none[1], plain[1])
    assert tiny_power[0] == pytest.approx(plain[0], abs=1e-6)
    torch.testing.assert_close(tiny_power[1], plain[1], rtol=0, atol=1e-6)


def test_a_large_power_leaves_what_is_hardly_known(value) -> None:
    gradient = value(Wga(beta=60.0, retain_weight=0.0))[1]
    # 0.8^60 = 1.5e-6 against 0.5^60 = 8.7e-19
    assert gradient[1].abs().max() > 1e9 * gradient[0].abs().max() > 0


def test_satimp_weighs_by_saturation_and_importance(value) -> None:
    # p^5 (1 - p) nll: 0.25: 0.75 / 1024 log 4; 0.8: 0.32768 * 0.2 log 1.25; 0.5: log 2 / 64
    weighed = 0.75 / 1024 * log(4) + 0.065536 * log(1.25) + log(2) / 64
    method = SatImp(beta1=5.0, beta2=1.0, forget_weight=0.1, retain_weight=3.0)
    assert value(method)[0] == pytest.approx(-0.1 * weighed / 3 + 3 * log(10))


def test_no_gradient_flows_through_satimps_weight(value) -> None:
    # 0.1 / 3 * weight * (one-hot - softmax), at position 0 for 1 (weight 0.75 / 1024) and for 0 (weight 1 / 64)
    gradient = value(SatImp(beta1=5.0, beta2=1.0, forget_weight=0.1, retain_weight=0.0))[1]
    a, b, c = 0.1 / 3 * 0.75 / 1024, 0.1 / 3 / 64, 0.1 / 3 * 0.065536
    near(gradient, [[-0.5 * a + 0.5 * b, 0.75 * a - 0.25 * b, -0.25 * a - 0.25 * b], [-0.1 * c, -0.1 * c, 0.2 * c],
                    [0, 0, 0]])  # fmt: skip


def test_satimp_without_importance_steps_as_weighted_ascent_and_without_both_as_ascent(value) -> None:
    half = SatImp(beta1=1.5, beta2=0.0, forget_weight=1.0, retain_weight=1.0)
    torch.testing.assert_close(value(half)[1], value(Wga(beta=1.5, retain_weight=1.0))[1])
    none = SatImp(beta1=0.0, beta2=0.0, forget_weight=1.0, retain_weight=0.0)
    assert value(none)[0] == pytest.approx(value(GradAscent())[0])


def test_satimp_leaves_a_token_that_is_wholly_known(value) -> None:
    known = [[40.0, 0.0, 0.0], [0.0, 0.0, 40.0], [0.0, 0.0, 0.0]]  # p(1 | 0) is about 0, the others are 1 in fp32
    gradient = value(SatImp(beta1=5.0, beta2=0.5, forget_weight=1.0, retain_weight=0.0), known, torch.float32)[1]
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() < 1e-6


def test_ceu_is_the_nll_of_not_the_true_token(value) -> None:
    # -log 0.75 - log 0.2 - log 0.5 over three tokens
    loss, gradient = value(CEU(skip_first=False))
    assert loss == pytest.approx(-log(0.075) / 3)
    # softmax - target: (0.5 0.25 0.25) - (2/3 0 1/3) and - (0 1/2 1/2); (0.1 0.1 0.8) - (1/2 1/2 0)
    near(gradient, [[(-1 / 6 + 0.5) / 3, 0, (-1 / 12 - 0.25) / 3], [-0.4 / 3, -0.4 / 3, 0.8 / 3], [0, 0, 0]])


def test_ceu_differs_from_the_published_number_by_the_targets_entropy_and_steps_alike(value) -> None:
    table = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    places, true = torch.tensor([0, 1, 0]), torch.tensor([1, 2, 0])
    logits = table[places]
    target = logits.detach().scatter(-1, true[:, None], float("-inf")).softmax(-1)
    published = torch.nn.functional.cross_entropy(logits, target)
    published.backward()
    loss, gradient = value(CEU(skip_first=False))
    torch.testing.assert_close(gradient, table.grad)
    entropy = -(target * target.clamp(min=1e-300).log()).sum(-1).mean()
    assert loss + entropy.item() == pytest.approx(published.item())


def test_ceu_skips_the_first_token_of_every_row(value) -> None:
    loss, gradient = value(CEU(skip_first=True))
    assert loss == pytest.approx(-log(0.2) / 3)  # still over all three answer tokens
    near(gradient, [[0, 0, 0], [-0.4 / 3, -0.4 / 3, 0.8 / 3], [0, 0, 0]])


@pytest.mark.parametrize(("size", "expected"), [(1e4, 1e4 - log(2)), (-1e4, 0.0)])
def test_ceu_is_stable_where_the_model_is_sure(table_lm, to_rows, size: float, expected: float) -> None:
    model = table_lm([[0.0, size, 0.0], [0.0, 0.0, 0.0]], torch.float32)
    part = CEU(skip_first=False).loss(model, {"forget": to_rows([([0, 1], 1)])}, None)["forget"]
    part.sum.backward()
    assert part.sum.item() == pytest.approx(expected)
    sure = [-0.5, 1.0, -0.5] if size > 0 else [0.0, 0.0, 0.0]
    torch.testing.assert_close(model.table.grad[0], torch.tensor(sure))
