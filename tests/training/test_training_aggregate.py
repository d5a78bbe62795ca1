"""Aggregates of the rows' losses, worked by hand; several processes are tried in ``tests/test_spreading.py``."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import cpu

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.methods.base import BaseMethod
from meow_lightning.training.aggregate import Aggregate
from meow_lightning.training.fit import fit
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.training.sam import Sam
from meow_lightning.types import Encoded, LossPart, LossParts

WORST = Aggregate(kind="worst", temperature=2.0)
TOP = Aggregate(kind="top", temperature=0.0)


def test_the_worst_is_a_soft_maximum_not_a_soft_minimum() -> None:
    # +2 log((e^(1/2) + e^(3/2)) / 2), and weights softmax(1/2, 3/2) = (1, e) / (1 + e)
    assert WORST.value([1.0, 3.0]) == pytest.approx(2 * log((exp(0.5) + exp(1.5)) / 2))
    assert WORST.value([1.0, 3.0]) == pytest.approx(2.240229, abs=1e-6)
    assert WORST.weights([1.0, 3.0], [1.0, 3.0]) == pytest.approx([1 / (1 + exp(1)), exp(1) / (1 + exp(1))])
    # The published sign would give 1.759771, below the mean of 2, and weigh the row of loss 1 most.
    assert WORST.value([1.0, 3.0]) > 2.0


def test_the_temperature_leads_from_the_maximum_to_the_mean() -> None:
    losses = [1.0, 3.0, 2.0]
    cold, hot = (Aggregate(kind="worst", temperature=each) for each in (1e-3, 1e6))
    assert cold.value(losses) == pytest.approx(3.0, abs=2e-3)
    assert cold.weights(losses, losses) == pytest.approx([0, 1, 0])
    assert hot.value(losses) == pytest.approx(2.0, abs=1e-5)
    assert Aggregate(kind="worst", temperature=1e-3).value([5e3, -5e3]) == pytest.approx(5e3)  # no overflow


@pytest.mark.parametrize(
    ("losses", "value", "weights"),
    [
        ([1.0, 3.0, 2.0, 4.0], 3.5, [0, 0.5, 0, 0.5]),
        ([1.0, 3.0, 2.0, 5.0, 4.0], 4.5, [0, 0, 0, 0.5, 0.5]),  # of five rows two
        ([7.0], 7.0, [1]),
        ([1.0, 2.0, 2.0, 3.0], 2.5, [0, 0.25, 0.25, 0.5]),  # equal losses share a place
        ([2.0, 2.0, 2.0, 2.0], 2.0, [0.25] * 4),
    ],
)
def test_the_top_is_the_mean_of_the_largest_half(losses: Any, value: float, weights: Any) -> None:
    assert TOP.value(losses) == pytest.approx(value)
    assert TOP.weights(losses, losses) == pytest.approx(weights)
    assert TOP.weights(losses[1:], losses) == pytest.approx(weights[1:])


@pytest.mark.parametrize("aggregate", [WORST, TOP], ids=lambda each: each.kind)
def test_weights_are_the_derivatives(aggregate: Aggregate) -> None:
    losses, step = [0.3, -1.2, 2.0, 0.9], 1e-6
    for place, weight in enumerate(aggregate.weights(losses, losses)):
        moved = [loss + step * (number == place) for number, loss in enumerate(losses)]
        assert (aggregate.value(moved) - aggregate.value(losses)) / step == pytest.approx(weight, abs=1e-5)


class Slopes(BaseMethod):
    """A forget row costs x per scored token in one part and -x / 2 in another, a retain row y."""

    streams = ("forget", "retain")
    per_row = True

    def loss(self, model: Any, batch: Any, reference: Any) -> LossParts:
        x, y = model.point
        scored_B, kept = batch["forget"].loss_mask_BT.sum(-1), batch["retain"].loss_mask_BT.any(-1).sum()  # noqa: N806
        costs_B, half_B = x * scored_B, x * (scored_B > 0)  # noqa: N806
        return {
            "forget": LossPart(costs_B.sum(), "forget", "row", rows=costs_B),
            "half": LossPart(half_B.sum(), "forget", "row", -0.5, rows=half_B),
            "retain": LossPart(kept * y, "retain", "row"),
        }


class Point(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.point = torch.nn.Parameter(torch.tensor([2.0, 1.0], dtype=torch.float64))


def step(folder: Path, aggregate: Aggregate | None, *, micro: int, sam: Sam | None = None) -> Any:
    """The gradient and the logged point of one step on rows of 1, 2 and 3 scored tokens."""
    model, points = Point(), list[dict[str, float]]()
    rows = [Encoded((0, 1), 1), Encoded((0, 1, 2), 1), Encoded((2, 0, 1, 1), 1)]
    plan = BatchPlan(
        streams={"forget": StreamData(rows), "retain": StreamData(rows)}, global_batch_size=3, batch_tokens=None,
        epochs=1, seed=0, paired=(),
    )  # fmt: skip
    optim = Optim(
        optimizer="adamw", lr=1e-30, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, max_grad_norm=0.0, warmup=0.0,
        schedule="constant", grid=0.0, sam=sam, aggregate=aggregate,
    )  # fmt: skip
    module = TrainingModule(model=model, method=Slopes(), plan=plan, optim=optim, log_every=1, reference=None)
    fit(module, folder=folder, pad_id=0, machine=cpu("64-true", micro, 1e9), callbacks=[], write=points.append)
    return model.point.grad.tolist(), points[-1]


# At x = 2 the rows cost 1, 3 and 5 with the slopes 0.5, 1.5 and 2.5; the retain term has the value and the slope 1.
SLOPES, COSTS = (0.5, 1.5, 2.5), (1.0, 3.0, 5.0)
SOFT = [exp(each / 2) / sum(exp(other / 2) for other in COSTS) for each in COSTS]


@pytest.mark.parametrize("micro", [1, 2, 64])
@pytest.mark.parametrize(
    ("aggregate", "slope", "value"),
    [
        (None, 1.5, 3.0),
        (TOP, 2.5, 5.0),
        (WORST, sum(weight * each for weight, each in zip(SOFT, SLOPES, strict=True)),
         2 * log(sum(exp(each / 2) for each in COSTS) / 3)),
    ],
)  # fmt: skip
def test_gradient_and_logged_loss_by_hand(
    tmp_path: Path, aggregate: Aggregate | None, slope: float, value: float, micro: int
) -> None:
    gradient, point = step(tmp_path, aggregate, micro=micro)
    assert gradient == pytest.approx([slope, 1.0])
    assert point["loss"] == pytest.approx(value + 1)
    assert point["loss/retain"] == pytest.approx(1.0)


def test_weights_are_those_at_the_perturbed_weights(tmp_path: Path) -> None:
    # The gradient is (slope, 0) for the forget term: x moves by 1 to 3, where the rows cost 1.5, 4.5 and 7.5.
    soft = [exp(each / 4 * 3) for each in (1.0, 3.0, 5.0)]
    gradient, _ = step(tmp_path, WORST, micro=1, sam=Sam(rho=1.0, terms="forget"))
    assert gradient == pytest.approx([sum(w * each for w, each in zip(soft, SLOPES, strict=True)) / sum(soft), 1.0])
