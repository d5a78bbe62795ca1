from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from math import log
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helping import KillAfter, KillError, cpu

from meow_lightning.data.collate import collate
from meow_lightning.data.plan import Plan, Stream
from meow_lightning.losses import answer_logps
from meow_lightning.methods.grad_diff import GradDiff
from meow_lightning.methods.meow_retain import MeowRetain
from meow_lightning.methods.npo import Npo
from meow_lightning.module import Optim, TrainingModule
from meow_lightning.training import checkpoint_step, fit
from meow_lightning.types import Encoded, UserError

ADAMW = Optim(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, clip=1.0, warmup=3, schedule="linear")


def plan(first: str, second: str) -> Plan:
    """20 steps: 5 an epoch (18 anchor rows in 3 or 4 a step), 4 epochs."""
    dice = random.Random(0)
    streams = {
        name: Stream([
            Encoded(tuple(dice.choices(range(2, 290), k=dice.randint(4, 12))), dice.randint(1, 3)) for _ in range(rows)
        ])
        for name, rows in ((first, 18), (second, 7))
    }  # fmt: skip
    return Plan(streams=streams, batch=4, epochs=4, seed=1, paired=())


class Priced(GradDiff):
    """A method with a state: its retain weight grows with every step's retain loss."""

    def stepped(self, values: Mapping[str, float]) -> None:
        self.retain_weight += 0.01 * values["retain"]

    def state(self) -> dict[str, float]:
        return {"weight": self.retain_weight}

    def restore(self, state: Mapping[str, float]) -> None:
        self.retain_weight = state["weight"]


def train(
    model: torch.nn.Module, folder: Any, *, method: Any = None, micro: int = 64, precision: str = "32-true",
    seconds: float = 1e9, callbacks: tuple[pl.Callback, ...] = (),
) -> list[dict[str, float]]:  # fmt: skip
    """The logged points; the model is trained in place."""
    method = method or GradDiff(retain_weight=0.7)
    module = TrainingModule(
        model=model, method=method, plan=plan(*method.streams), optim=ADAMW, log_every=1, reference=None
    )
    points: list[dict[str, float]] = []
    try:
        fit(
            module,
            folder=folder,
            pad_id=1,
            machine=cpu(precision, micro, seconds),
            callbacks=callbacks,
            write=points.append,
        )
    except KillError:
        points.append({"killed": 1})
    return points


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("method", [GradDiff(retain_weight=0.7), MeowRetain(retain_weight=1.3)], ids=lambda m: type(m))
def test_micro_batch_does_not_change_the_weights(tiny, tmp_path, method: Any) -> None:
    tiny.double()
    trained, curves = {}, {}
    for micro in (1, 2, 4, 64):
        trained[micro] = copy.deepcopy(tiny)
        curves[micro] = train(trained[micro], tmp_path / str(micro), method=method, micro=micro, precision="64-true")
    for micro in (1, 2, 4):
        pairs = zip(trained[64].parameters(), trained[micro].parameters(), strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) < 1e-9
        for one, other in zip(curves[micro], curves[64], strict=True):
            assert one == pytest.approx(other, rel=1e-6)
    moved = zip(trained[64].parameters(), tiny.parameters(), strict=True)
    assert min((a - b).abs().max().item() for a, b in moved) > 1e-3
    assert len(curves[64]) == 20


# 4 and 8 lie within an epoch, 5 and 10 at its end; 1 is the first step there is, 19 the last but one.
@pytest.mark.parametrize("kill", [1, 4, 5, 8, 10, 19])
def test_a_killed_run_goes_on_bit_identically(tiny, tmp_path, kill: int) -> None:
    whole, broken, resumed = copy.deepcopy(tiny), copy.deepcopy(tiny), copy.deepcopy(tiny)
    undisturbed = train(whole, tmp_path / "whole", seconds=0)
    # The kill comes before the checkpoint of its own step: the run goes on from the step before.
    before = train(broken, tmp_path / "killed", seconds=0, callbacks=(KillAfter(kill),))
    assert before.pop() == {"killed": 1}
    assert checkpoint_step(tmp_path / "killed" / "last.ckpt") == kill - 1
    after = train(resumed, tmp_path / "killed", seconds=0)
    assert [point["step"] for point in after] == list(range(kill, 21))
    assert before[: kill - 1] + after == undisturbed
    assert same(resumed, whole)
    assert not same(broken, whole)


def test_a_methods_own_state_goes_on_too(tiny, tmp_path) -> None:
    whole, killed = copy.deepcopy(tiny), copy.deepcopy(tiny)
    first, second = Priced(retain_weight=0.7), Priced(retain_weight=0.7)
    train(whole, tmp_path / "whole", method=first)
    train(killed, tmp_path / "killed", method=second, seconds=0, callbacks=(KillAfter(7),))
    assert 0.7 < second.retain_weight < first.retain_weight
    third = Priced(retain_weight=0.7)
    train(killed, tmp_path / "killed", method=third, seconds=0)
    assert third.retain_weight == first.retain_weight
    assert same(whole, killed)


def test_a_run_may_be_killed_again_and_again(tiny, tmp_path) -> None:
    whole, resumed = copy.deepcopy(tiny), tiny
    undisturbed = train(whole, tmp_path / "whole")
    points: list[dict[str, float]] = []
    for kill in (4, 6, 11, 99):
        resumed = copy.deepcopy(resumed)
        later = train(resumed, tmp_path / "killed", seconds=0, callbacks=(KillAfter(kill),))
        points = [point for point in points if point["step"] < later[0]["step"]] + later
        points = [point for point in points if "step" in point]
    assert points == undisturbed
    assert same(resumed, whole)


def test_dropout_does_not_depend_on_a_kill(tiny, tmp_path) -> None:
    tiny.config.attention_dropout = 0.3
    for layer in tiny.model.layers:
        layer.self_attn.attention_dropout = 0.3
    whole, resumed, without = copy.deepcopy(tiny), copy.deepcopy(tiny), copy.deepcopy(tiny).eval()
    train(without, tmp_path / "without")
    undisturbed = train(whole, tmp_path / "whole")
    assert not same(whole, without)
    torch.rand(17)  # another state of the generator
    train(copy.deepcopy(tiny), tmp_path / "killed", seconds=0, callbacks=(KillAfter(8),))
    torch.rand(3)
    assert train(resumed, tmp_path / "killed", seconds=0) == undisturbed[7:]
    assert same(resumed, whole)


def test_log_ratios_to_the_start_model_are_zero_at_the_start_whatever_the_precision(tiny, tmp_path) -> None:
    tiny.to(torch.bfloat16)
    rows = [Encoded((5, 6, *range(20 + i, 60 + i)), 2) for i in range(4)]  # 40 tokens: log p near -230
    with torch.no_grad():
        known = answer_logps(tiny.eval(), collate(rows, pad_id=1)).tolist()
    assert max(known) < -200
    kept = [row._replace(reference=logp) for row, logp in zip(rows, known, strict=True)]
    points: list[dict[str, float]] = []
    made = Plan(streams={"forget": Stream(kept)}, batch=4, epochs=1, seed=0, paired=())
    module = TrainingModule(model=tiny, method=Npo(beta=1.0), plan=made, optim=ADAMW, log_every=1, reference=None)
    fit(module, folder=tmp_path, pad_id=1, machine=cpu("bf16-true", 4, 1e9), callbacks=(), write=points.append)
    assert points[0]["loss/forget"] == pytest.approx(log(2), abs=1e-4)


def test_checkpoints_do_not_change_the_weights_and_end_before_the_last_step(tiny, tmp_path) -> None:
    with_checkpoints, without = copy.deepcopy(tiny), copy.deepcopy(tiny)
    train(with_checkpoints, tmp_path / "with", seconds=0)
    train(without, tmp_path / "without", seconds=1e9)
    assert same(with_checkpoints, without)
    assert [path.name for path in (tmp_path / "with").iterdir()] == ["last.ckpt"]
    assert checkpoint_step(tmp_path / "with" / "last.ckpt") == 19
    assert not (tmp_path / "without" / "last.ckpt").exists()


def test_checkpoint_step_of_nothing_is_zero(tmp_path) -> None:
    assert checkpoint_step(tmp_path / "last.ckpt") == 0


def test_model_stays_in_training_mode_and_global_seed_is_of_no_account(tiny, tmp_path) -> None:
    one, other = copy.deepcopy(tiny), copy.deepcopy(tiny)
    torch.manual_seed(1)
    train(one, tmp_path / "one")
    torch.manual_seed(2)
    train(other, tmp_path / "other")
    assert same(one, other)
    assert one.training


def test_a_training_that_diverges_is_told(tiny, tmp_path) -> None:
    with torch.no_grad():
        next(tiny.parameters()).fill_(float("nan"))
    module = TrainingModule(
        model=tiny,
        method=GradDiff(retain_weight=1.0),
        plan=plan("forget", "retain"),
        optim=ADAMW,
        log_every=1,
        reference=None,
    )
    with pytest.raises(
        UserError, match=r"^the loss is nan at step 1: training diverged, or the model it started from is"
    ):
        fit(module, folder=tmp_path, machine=cpu("32-true", 8, 99.0), pad_id=0, callbacks=[], write=lambda point: None)
