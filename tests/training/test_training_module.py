from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from helpers.common import cpu

from meow_lightning.data.batch_plan import BatchPlan, StreamData, counts, shard_micro_batches
from meow_lightning.data.collate import collate_streams
from meow_lightning.errors import UserError
from meow_lightning.methods.finetune import FineTune
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.training.fit import fit
from meow_lightning.training.module import GRID, Optim, TrainingModule, round_to_grid, schedule_factor, total_loss
from meow_lightning.types import Encoded, LossPart


def optim(**changes: Any) -> Optim:
    plain = {
        "optimizer": "adamw",
        "grid": 0.0,
        "lr": 0.5,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "warmup": 0.0,
    }
    return Optim(**{**plain, "schedule": "constant", **changes})


@pytest.mark.parametrize(
    ("warmup", "schedule", "expected"),
    [
        (0.0, "constant", [1, 1, 1, 1, 1]),
        (0.0, "linear", [1, 0.8, 0.6, 0.4, 0.2]),  # (5 - t) / 5
        (2, "constant", [1 / 3, 2 / 3, 1, 1, 1]),  # (t + 1) / (2 + 1)
        (2, "linear", [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),  # (5 - t) / 3
        (0.4, "linear", [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),  # 0.4 of 5 steps are 2
        (0.3, "constant", [1 / 2, 1, 1, 1, 1]),  # 1.5 steps are 1
        (1, "constant", [1 / 2, 1, 1, 1, 1]),  # from 1 on they are steps
        (9, "linear", [0.1, 0.2, 0.3, 0.4, 0.5]),  # a warm-up longer than the run
    ],
)
def test_schedule_by_hand(warmup: float, schedule: Any, expected: list[float]) -> None:
    factor = schedule_factor(optim(warmup=warmup, schedule=schedule), 5)
    assert [factor(t) for t in range(5)] == pytest.approx(expected, abs=1e-12)


def test_linear_schedule_ends_at_zero_and_stays_there() -> None:
    factor = schedule_factor(optim(warmup=2, schedule="linear"), 5)
    assert (factor(5), factor(6)) == (0, 0)


def test_weights_are_rounded_to_the_nearest_multiple_of_the_grid_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.0, 0.3, 0.374, 0.375, 0.376, -0.6, -0.625, 1.0], dtype=torch.float64))
    round_to_grid([weight], 0.25)
    # 0.375 and -0.625 lie in the middle: ties go to the even multiple, 2 * 0.25 and -2 * 0.25
    assert weight.tolist() == [0.0, 0.25, 0.25, 0.5, 0.5, -0.5, -0.5, 1.0]


def test_rounding_differences_vanish_on_the_grid() -> None:
    torch.manual_seed(0)
    one = torch.nn.Parameter(torch.randn(1000, dtype=torch.float64))
    other = torch.nn.Parameter(one.detach() * (1 + 1e-15))
    assert not torch.equal(one, other)
    round_to_grid([one, other], GRID)
    assert torch.equal(one, other)


def test_unknown_schedule_is_named() -> None:
    with pytest.raises(
        UserError, match=r"^optim.schedule=cosine is invalid: expected one of linear, constant. Did you mean linear\?$"
    ):
        schedule_factor(optim(schedule="cosine"), 5)


def test_total_loss_divides_by_the_global_counts() -> None:
    parts = {
        "a": LossPart(torch.tensor(6.0), "x", "token", -1.0),
        "b": LossPart(torch.tensor(3.0), "y", "row", 0.5),
    }
    # -6 / 12 + 0.5 * 3 / 2
    loss = total_loss(parts, {"x": {"token": 12, "row": 7}, "y": {"token": 9, "row": 2}})
    assert loss.item() == pytest.approx(0.25)
    assert loss.dtype == torch.float32


def test_total_loss_stays_in_fp64() -> None:
    loss = total_loss({"a": LossPart(torch.tensor(1.0, dtype=torch.float64), "x", "token")}, {"x": {"token": 3}})
    assert loss.item() == pytest.approx(1 / 3, abs=1e-15)


def test_micro_batches_add_up_to_the_global_loss(table_lm) -> None:
    model = table_lm([[0.0, 1.0, 2.0]] * 4)
    batch = {
        "forget": [Encoded((0, 1, 2), 1), Encoded((0, 1), 1), Encoded((2, 2, 2, 0), 2)],
        "retain": [Encoded((0, 0), 1), Encoded((1, 0, 0), 1)],
    }
    method, losses = GradAscent(retain="ce", retain_weight=0.5), []
    for world, micro in ((1, 1), (1, 2), (1, 5), (2, 1), (3, 5)):
        micros = [m for rank in range(world) for m in shard_micro_batches(batch, rank=rank, world=world, micro=micro)]
        tensors = [collate_streams(m, pad_id=0) for m in micros]
        losses.append(sum(total_loss(method.loss(model, m, None), counts(batch)).item() for m in tensors))
    # lse = log(1 + e + e^2); nll of token v is lse - v. Forget targets 1 2 / 1 / 2 0: mean nll = lse - 6/5;
    # retain targets 0 / 0 0: mean nll = lse. Loss: -(lse - 1.2) + 0.5 lse.
    expected = 1.2 - 0.5 * log(1 + exp(1) + exp(2))
    assert losses == pytest.approx([expected] * 5, abs=1e-12)


def train(
    model: torch.nn.Module, folder: Any, *, micro: int = 64, log_every: int = 1, method: Any = None, **changes: Any
) -> list[dict]:
    rows = [Encoded((0, 1, 2), 1), Encoded((0, 2), 1), Encoded((1, 1, 1, 0), 2)]
    plan = BatchPlan(
        streams={"learn": StreamData(rows)}, global_batch_size=3, batch_tokens=None, epochs=3, seed=0, paired=()
    )
    module = TrainingModule(
        model=model, method=method or FineTune(), plan=plan, optim=optim(**changes), log_every=log_every, reference=None
    )
    points: list[dict] = []
    fit(
        module,
        folder=folder,
        pad_id=0,
        machine=cpu("64-true", micro, 1e9),
        callbacks=[],
        write=points.append,
    )
    return points


@pytest.mark.parametrize("micro", [1, 2, 64])
def test_logged_loss_is_the_one_by_hand_for_every_micro_batch(table_lm, tmp_path, micro: int) -> None:
    points = train(table_lm([[0.0, 1.0, 2.0]] * 4), tmp_path, micro=micro, warmup=1, schedule="linear")
    # Targets 1 2 / 2 / 1 0: mean nll = lse - (1 + 2 + 2 + 1 + 0) / 5
    expected = log(1 + exp(1) + exp(2)) - 6 / 5
    assert points[0]["loss"] == pytest.approx(expected, rel=1e-6)
    assert points[0]["loss/learn"] == pytest.approx(expected, rel=1e-6)
    assert [point["step"] for point in points] == [1, 2, 3]
    assert [point["epoch"] for point in points] == [1, 2, 3]
    # Warm-up of 1 step: 1/2, then (3 - t) / 2 = 1, 1/2 of 0.5
    assert [point["lr"] for point in points] == pytest.approx([0.25, 0.5, 0.25])
    assert points[2]["loss"] < points[0]["loss"]


def test_points_every_so_many_steps_and_at_the_end(table_lm, tmp_path) -> None:
    points = train(table_lm([[0.0, 1.0, 2.0]] * 4), tmp_path, log_every=2)
    assert [point["step"] for point in points] == [2, 3]


def test_first_adam_step_is_the_learning_rate_against_the_gradient(table_lm, tmp_path) -> None:
    model = table_lm([[0.0, 0.0, 0.0]] * 4)
    rows = [Encoded((0, 1), 1)]
    plan = BatchPlan(
        streams={"learn": StreamData(rows)}, global_batch_size=1, batch_tokens=None, epochs=1, seed=0, paired=()
    )
    module = TrainingModule(
        model=model, method=FineTune(), plan=plan, optim=optim(eps=1e-30), log_every=1, reference=None
    )
    fit(
        module,
        folder=tmp_path,
        pad_id=0,
        machine=cpu("64-true", 1, 1e9),
        callbacks=[],
        write=lambda point: None,
    )
    # Gradient at position 0: (1/3, -2/3, 1/3); Adam's first step is lr * sign. Other positions: gradient 0.
    expected = [[-0.5, 0.5, -0.5], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    torch.testing.assert_close(model.table.detach(), torch.tensor(expected, dtype=torch.float64))


def test_gradients_are_clipped_to_a_norm(table_lm, tmp_path) -> None:
    model = table_lm([[0.0, 0.0, 0.0]] * 4)
    rows = [Encoded((0, 1), 1)]
    plan = BatchPlan(
        streams={"learn": StreamData(rows)}, global_batch_size=1, batch_tokens=None, epochs=1, seed=0, paired=()
    )
    for largest, expected in ((0.01, 0.01), (9.0, (1 / 9 + 4 / 9 + 1 / 9) ** 0.5), (0.0, (6 / 9) ** 0.5)):
        module = TrainingModule(
            model=model,
            method=FineTune(),
            plan=plan,
            optim=optim(max_grad_norm=largest, lr=1e-12),
            log_every=1,
            reference=None,
        )
        fit(
            module,
            folder=tmp_path,
            pad_id=0,
            machine=cpu("64-true", 1, 1e9),
            callbacks=[],
            write=lambda point: None,
        )
        assert model.table.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_frozen_weights_stay_as_they_are(tiny) -> None:
    plan = BatchPlan(
        streams={"learn": StreamData([Encoded((5, 6), 1)])},
        global_batch_size=1,
        batch_tokens=None,
        epochs=1,
        seed=0,
        paired=(),
    )
    tiny.model.embed_tokens.weight.requires_grad_(False)
    module = TrainingModule(model=tiny, method=FineTune(), plan=plan, optim=optim(), log_every=1, reference=None)
    trained = module.configure_optimizers()["optimizer"].param_groups[0]["params"]
    assert all(weight is not tiny.model.embed_tokens.weight for weight in trained)
    assert len(trained) == sum(1 for weight in tiny.parameters() if weight.requires_grad)


class Spring(FineTune):
    """A loss of nothing but the regularizer."""

    def loss(self, model: torch.nn.Module, batch: Any, reference: torch.nn.Module | None) -> Any:
        return {"learn": LossPart(0.0 * super().loss(model, batch, reference)["learn"].sum, "learn", "token")}

    def regularizer(self, model: torch.nn.Module, start: Any) -> torch.Tensor:
        assert start.keys() == {"table"}
        return 0.5 * ((model.table - start["table"] - 1) ** 2).sum()


@pytest.mark.parametrize("micro", [1, 64])
def test_a_regularizer_counts_once_a_step_and_pulls_by_hand(table_lm, tmp_path, micro: int) -> None:
    model = table_lm([[0.0, 1.0, 2.0]] * 4)
    points = train(model, tmp_path, micro=micro, method=Spring(), lr=0.25)
    # Twelve entries, each 1 away from its goal: 12 / 2. AdamW moves each by lr in the first step: 12 * 0.75^2 / 2.
    assert [point["loss/regularizer"] for point in points[:2]] == pytest.approx([6.0, 3.375], rel=1e-6)
    assert [point["loss"] for point in points] == [point["loss/regularizer"] for point in points]
    assert model.table[0].tolist() > [0.5, 1.5, 2.5]
