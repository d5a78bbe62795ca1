"""Sharpness-aware steps on a quadratic, worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import cpu

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.methods.base import BaseMethod
from meow_lightning.methods.losses import rows_with_targets
from meow_lightning.training.fit import fit
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.training.sam import Sam, perturbed
from meow_lightning.types import Encoded, LossPart, LossParts

ROWS = {"forget": [Encoded((0, 1), 1), Encoded((0, 1, 2), 1), Encoded((2, 0), 1)], "retain": [Encoded((1, 1), 1)] * 3}


class Bowl(torch.nn.Module):
    """Two weights, at (3, 1), and one that no loss reads."""

    def __init__(self) -> None:
        super().__init__()
        self.point = torch.nn.Parameter(torch.tensor([3.0, 1.0], dtype=torch.float64))
        self.unread = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))


class Quadratic(BaseMethod):
    """Every forget row costs (x^2 + 4 y^2) / 2, every retain row x - y; an epoch may read one of the streams."""

    streams = ("forget", "retain")

    def __init__(self, *, reads: tuple[str, ...] = ("forget", "retain")) -> None:
        self.reads = reads

    def phase(self, epoch: int) -> tuple[str, ...]:
        return self.reads

    def loss(self, model: Any, batch: Any, reference: Any) -> LossParts:
        x, y = model.point
        costs = {"forget": (x**2 + 4 * y**2) / 2, "retain": x - y}
        return {
            name: LossPart(sum=rows_with_targets(batch[name]).sum() * costs[name], stream=name, per="row")
            for name in self.reads
        }


class Pulled(Quadratic):
    """The same with a spring to the origin."""

    def regularizer(self, model: Any, start: Any) -> torch.Tensor:
        return 10 * model.point.sum()


def step(folder: Path, sam: Sam | None, *, method: Any = None, micro: int = 64, norm: float = 0.0) -> Any:
    """The gradient of one step, the logged point, and the weights, which a tiny learning rate leaves in place."""
    model, points, method = Bowl(), list[dict[str, float]](), method or Quadratic()
    plan = BatchPlan(
        streams={name: StreamData(rows) for name, rows in ROWS.items()}, global_batch_size=3, batch_tokens=None,
        epochs=1, seed=0, paired=(),
    )  # fmt: skip
    optim = Optim(
        optimizer="adamw", lr=1e-30, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, max_grad_norm=norm, warmup=0.0,
        schedule="constant", grid=0.0, sam=sam,
    )  # fmt: skip
    module = TrainingModule(model=model, method=method, plan=plan, optim=optim, log_every=1, reference=None)
    fit(module, folder=folder, pad_id=0, machine=cpu("64-true", micro, 1e9), callbacks=[], write=points.append)
    assert model.point.tolist() == [3.0, 1.0]  # exactly
    return model.point.grad.tolist(), points[-1]


# At (3, 1) the forget term has the gradient (3, 4) of norm 5: the perturbation is (0.3, 0.4), where its gradient is
# (3.3, 5.6). The retain term has (1, -1) everywhere. Together they have (4, 3), of norm 5: (3.4, 1.3), (3.4, 5.2).
CASES = {
    "off": (None, [4.0, 3.0]),
    "forget": (Sam(rho=0.5, terms="forget"), [4.3, 4.6]),
    "all": (Sam(rho=0.5, terms="all"), [4.4, 4.2]),
}


@pytest.mark.parametrize("micro", [1, 2, 64])
@pytest.mark.parametrize("name", CASES)
def test_gradient_at_the_perturbed_weights_by_hand(tmp_path: Path, name: str, micro: int) -> None:
    sam, expected = CASES[name]
    gradient, point = step(tmp_path, sam, micro=micro)
    assert gradient == pytest.approx(expected, abs=1e-12)
    # The logged loss is that at the weights themselves: 6.5 and 2.
    assert point["loss/forget"] == pytest.approx(6.5)
    assert point["loss/retain"] == pytest.approx(2.0)
    assert point["loss"] == pytest.approx(8.5)


def test_clipping_and_the_regularizer_come_after(tmp_path: Path) -> None:
    gradient, _ = step(tmp_path / "pulled", CASES["forget"][0], method=Pulled())
    assert gradient == pytest.approx([14.3, 14.6])
    gradient, _ = step(tmp_path / "clipped", CASES["forget"][0], norm=1.0)
    length = (4.3**2 + 4.6**2) ** 0.5
    assert gradient == pytest.approx([4.3 / length, 4.6 / length], rel=1e-5)


@pytest.mark.parametrize(("stream", "expected"), [("forget", [3.3, 5.6]), ("retain", [1.0, -1.0])])
def test_an_epoch_without_a_term_has_the_gradient_of_the_other(tmp_path: Path, stream: str, expected: Any) -> None:
    gradient, _ = step(tmp_path, CASES["forget"][0], method=Quadratic(reads=(stream,)))
    assert gradient == pytest.approx(expected, abs=1e-12)


def test_weights_return_exactly_and_move_by_rho_in_between() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(50)) for _ in range(3)]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights[:2]:
        weight.grad = torch.randn(50)
    gradient = torch.cat([weight.grad for weight in weights[:2]])
    with perturbed(weights, rho=0.1):
        moved = torch.cat([weight.detach() - old for weight, old in zip(weights, before, strict=True)])
        assert all(weight.grad is None for weight in weights)
    torch.testing.assert_close(moved[:100], 0.1 * gradient / gradient.norm(), rtol=0, atol=1e-6)
    assert not moved[100:].any()
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))


def test_a_gradient_of_zero_moves_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    with perturbed([weight], rho=0.1):
        assert weight.tolist() == [1.0, 1.0]
