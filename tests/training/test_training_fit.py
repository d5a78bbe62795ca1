from __future__ import annotations

import copy
import pickle
import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.common import KillAfter, KillError, cpu

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.data.collate import collate
from meow_lightning.errors import UserError
from meow_lightning.methods.dpo import Dpo
from meow_lightning.methods.finetune import FineTuneUntilKnown
from meow_lightning.methods.grad_ascent import GradAscent
from meow_lightning.methods.meow import Meow
from meow_lightning.methods.npo import Npo
from meow_lightning.methods.pdu import Pdu
from meow_lightning.models.float64 import float64_forward
from meow_lightning.models.logprobs import answer_logps
from meow_lightning.training import optimizers
from meow_lightning.training.fit import (
    CheckpointError,
    check_checkpoint,
    check_lengths,
    checkpoint_step,
    describe_training,
    fit,
)
from meow_lightning.training.meter import MEMORY, TOKENS_PER_SECOND
from meow_lightning.training.module import GRID, Optim, TrainingModule
from meow_lightning.types import Encoded

ADAMW = Optim(
    optimizer="adamw", lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, max_grad_norm=1.0, warmup=3,
    schedule="linear", grid=0.0,
)  # fmt: skip


def plan(first: str, *others: str, paired: tuple[str, ...] = (), tokens: int | None = None) -> BatchPlan:
    """20 steps: 5 an epoch (18 anchor rows in 3 or 4 a step), 4 epochs."""
    rng = random.Random(0)
    streams = {
        name: StreamData([
            Encoded(tuple(rng.choices(range(2, 290), k=rng.randint(4, 12))), rng.randint(1, 3)) for _ in range(rows)
        ])
        for name, rows in ((first, 18), *((name, 18 if name in paired else 7) for name in others))
    }  # fmt: skip
    return BatchPlan(streams=streams, global_batch_size=4, batch_tokens=tokens, epochs=4, seed=1, paired=paired)


class Priced(GradAscent):
    """A method with a state: its retain weight grows with every step's retain loss."""

    def on_step_end(self, values: Mapping[str, float]) -> None:
        self.retain_weight += 0.01 * values["retain"]

    def state_dict(self) -> dict[str, float]:
        return {"weight": self.retain_weight}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.retain_weight = state["weight"]


def train(
    model: torch.nn.Module, folder: Any, *, method: Any = None, micro: int = 64, precision: str = "32-true",
    seconds: float = 1e9, callbacks: tuple[pl.Callback, ...] = (), tokens: int | None = None,
    buckets: int | None = None, grid: float = 0.0,
) -> list[dict[str, float]]:  # fmt: skip
    """The logged points without what differs between executions; the model is trained in place."""
    method = method or GradAscent(retain="ce", retain_weight=0.7)
    module = TrainingModule(
        model=model, method=method, plan=plan(*method.streams, paired=method.paired, tokens=buckets),
        optim=replace(ADAMW, grid=grid), log_every=1, reference=None,
    )  # fmt: skip
    points: list[dict[str, float]] = []
    try:
        fit(
            module,
            folder=folder,
            pad_id=1,
            machine=cpu(precision, micro, seconds, tokens=tokens),
            callbacks=callbacks,
            write=points.append,
        )
    except KillError:
        points.append({"killed": 1})
    machine = (TOKENS_PER_SECOND, MEMORY)
    return [{name: value for name, value in point.items() if name not in machine} for point in points]


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_weights_on_a_grid_are_the_same_bits_whatever_the_passes_and_threads(tiny, tmp_path, threads) -> None:
    tiny.double()
    float64_forward(tiny)
    whole, wish = copy.deepcopy(tiny), {"precision": "64-true", "grid": GRID}
    train(whole, tmp_path / "whole", **wish)
    for number, (micro, count) in enumerate([(1, 1), (2, 1), (3, 2), (64, 2)]):
        threads(count)
        cut = copy.deepcopy(tiny)
        train(cut, tmp_path / str(number), micro=micro, **wish)
        assert same(whole, cut), (micro, count)
    for weight in whole.parameters():
        assert torch.equal(weight, weight.float().double())  # so nothing is lost when they are stored in float32
        assert torch.equal(weight, (weight * 2.0**22).round() / 2.0**22)
    threads(1)
    float32 = [copy.deepcopy(tiny).float() for _ in range(2)]
    for micro, model in zip((64, 1), float32, strict=True):
        train(model, tmp_path / f"float32-{micro}", micro=micro)
    assert not same(*float32)  # which is why


# One stream, two, one whose weight follows the loss, and paired ones.
METHODS = (
    Meow(), GradAscent(retain="ce", retain_weight=0.7), Meow(retain="ce", retain_weight=1.3),
    Pdu(mu0=1.0, eta=0.1, eps=0.3), Dpo(retain="ce", beta=0.1, retain_weight=1.0),
)  # fmt: skip
# Rows a pass, or padded tokens in their place: rows have 4 to 12, so that 13 cuts nearly every row off and 30 some.
PASSES = ((1, None), (2, None), (4, None), (64, 13), (64, 30), (64, 100), (64, 1000))


@pytest.mark.parametrize("buckets", [None, 30])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_micro_batch_does_not_change_the_weights(tiny, tmp_path, method: Any, buckets: int | None) -> None:
    tiny.double()
    whole, cut = copy.deepcopy(tiny), {}
    wish = {"precision": "64-true", "buckets": buckets}
    curve = train(whole, tmp_path / "whole", method=copy.deepcopy(method), **wish)
    for micro, tokens in PASSES:
        cut[micro, tokens] = copy.deepcopy(tiny)
        place = tmp_path / f"{micro}-{tokens}"
        points = train(cut[micro, tokens], place, method=copy.deepcopy(method), micro=micro, tokens=tokens, **wish)
        pairs = zip(whole.parameters(), cut[micro, tokens].parameters(), strict=True)
        # PDU's weight follows sums that all processes exchange in float32
        assert max((a - b).abs().max().item() for a, b in pairs) < (1e-7 if isinstance(method, Pdu) else 1e-9)
        for one, other in zip(points, curve, strict=True):
            assert one == pytest.approx(other, rel=1e-6)
    moved = zip(whole.parameters(), tiny.parameters(), strict=True)
    assert min((a - b).abs().max().item() for a, b in moved) > 1e-3
    assert len(curve) == 20 if buckets is None else len(curve) > 20


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


def test_a_training_ends_once_its_rows_are_known_and_a_killed_one_at_the_same_step(tiny, tmp_path) -> None:
    def until() -> FineTuneUntilKnown:
        return FineTuneUntilKnown(known=1e3, steps_per_epoch=5, least=10)  # any loss will do after the second epoch

    whole, killed = copy.deepcopy(tiny), copy.deepcopy(tiny)
    points = train(whole, tmp_path / "whole", method=until(), seconds=0)
    assert points[-1]["step"] == 10
    assert checkpoint_step(tmp_path / "whole" / "last.ckpt") == 9  # none at the end: the caller saves the model
    train(killed, tmp_path / "killed", method=until(), seconds=0, callbacks=(KillAfter(7),))
    resumed = copy.deepcopy(tiny)
    assert train(resumed, tmp_path / "killed", method=until(), seconds=0) == points[6:]
    assert same(whole, resumed)


def test_the_description_of_a_training_covers_everything_that_affects_rounding() -> None:
    told = describe_training(cpu("64-true", 11, 1.0))
    assert told["device"] == torch.backends.cpu.get_cpu_capability()
    assert (told["threads"], told["processes"]) == (torch.get_num_threads(), 1)
    assert (told["micro_batch_size"], told["micro_batch_tokens"], told["precision"]) == (11, None, "64-true")


def test_a_methods_own_state_goes_on_too(tiny, tmp_path) -> None:
    whole, killed = copy.deepcopy(tiny), copy.deepcopy(tiny)
    first, second = Priced(retain="ce", retain_weight=0.7), Priced(retain="ce", retain_weight=0.7)
    train(whole, tmp_path / "whole", method=first)
    train(killed, tmp_path / "killed", method=second, seconds=0, callbacks=(KillAfter(7),))
    assert 0.7 < second.retain_weight < first.retain_weight
    third = Priced(retain="ce", retain_weight=0.7)
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
    made = BatchPlan(
        streams={"forget": StreamData(kept)}, global_batch_size=4, batch_tokens=None, epochs=1, seed=0, paired=()
    )
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


def test_a_training_that_diverges_is_reported(tiny, tmp_path) -> None:
    with torch.no_grad():
        next(tiny.parameters()).fill_(float("nan"))
    module = TrainingModule(
        model=tiny,
        method=GradAscent(retain="ce", retain_weight=1.0),
        plan=plan("forget", "retain"),
        optim=ADAMW,
        log_every=1,
        reference=None,
    )
    with pytest.raises(UserError, match=r"^the loss is nan at step 1: training diverged, or the start model is"):
        fit(module, folder=tmp_path, machine=cpu("32-true", 8, 99.0), pad_id=0, callbacks=[], write=lambda point: None)


class Payload:
    """What a pickle may hold: code that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))])
@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: {"global_step": 3, "hyper_parameters": evil}])
def test_no_code_in_a_checkpoint_is_run(tiny, tmp_path, write: Any, wrap: Any) -> None:
    ran = tmp_path / "ran"
    write(wrap(Payload(ran)), tmp_path / "last.ckpt")
    for load in (checkpoint_step, check_checkpoint):
        with pytest.raises(
            CheckpointError,
            match=r"^(it contains something other than tensors and plain "
            r"values|.*zip.*)$",
        ):
            load(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError):
        train(tiny, tmp_path)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists()  # an unsafe loader would have run it


@pytest.fixture(scope="module")
def interrupted(_weights, tmp_path_factory) -> Path:
    """The checkpoint of a training that was killed after its sixth step."""
    folder = tmp_path_factory.mktemp("interrupted")
    train(copy.deepcopy(_weights).train(), folder, method=Priced(retain="ce", retain_weight=0.7), seconds=0,
          callbacks=(KillAfter(7),))  # fmt: skip
    return folder / "last.ckpt"


def test_a_whole_checkpoint_passes(interrupted: Path) -> None:
    check_checkpoint(interrupted)
    assert checkpoint_step(interrupted) == 6
    assert [path.name for path in interrupted.parent.iterdir()] == ["last.ckpt"]


def flipped(whole: bytes) -> bytes:
    """The file with one bit of a weight changed, which `torch.load` does not see."""
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda whole: b"", "not a zip file"),
        (lambda whole: whole[: len(whole) // 2], "not a zip file"),
        (lambda whole: bytes(len(whole)), "not a zip file"),
        (flipped, r"checksum|Bad magic number"),
    ],
)
def test_a_damaged_checkpoint_is_seen(interrupted: Path, tmp_path: Path, damage: Any, why: str) -> None:
    broken = tmp_path / "last.ckpt"
    broken.write_bytes(damage(interrupted.read_bytes()))
    with pytest.raises(CheckpointError, match=why):
        check_checkpoint(broken)


def test_a_file_of_another_program_is_not_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(3), "global_step": 3}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=re.escape("it is missing epoch, loops, lr_schedulers, optimizer_states")):
        checkpoint_step(tmp_path / "last.ckpt")
    torch.save([1, 2], tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError):
        checkpoint_step(tmp_path / "last.ckpt")


@pytest.mark.parametrize(("border", "refused"), [(3, False), (8, True), (12, False)])
def test_rows_on_both_sides_of_a_longrope_border_are_refused(tiny, tmp_path, border, refused) -> None:
    """The longest row of a pass would decide how all of its rows are read; rows here have 5 to 12 tokens."""
    tiny.config.rope_parameters = {"rope_type": "longrope", "original_max_position_embeddings": border}
    method = Npo(beta=0.1)
    module = TrainingModule(
        model=tiny, method=method, plan=plan("forget"), optim=ADAMW, log_every=5, reference=None
    )  # fmt: skip
    if refused:
        with pytest.raises(UserError, match=r"^rows have 5 to 12 tokens, and beyond 8 this model's rotary embeddings"):
            check_lengths(module)
    else:
        check_lengths(module)


def test_fused_updates_clip_in_mixed_precision_and_agree_with_plain_ones(tiny, tmp_path, monkeypatch) -> None:
    found = []
    for bound in (optimizers.LARGE, 0):
        monkeypatch.setattr(optimizers, "LARGE", bound)
        model = copy.deepcopy(tiny)
        points = train(model, tmp_path / str(bound), precision="bf16-mixed")
        found.append((model, points))
    (plain, plain_points), (fast, fast_points) = found
    assert not same(plain, tiny)
    assert fast_points[-1]["loss"] == pytest.approx(plain_points[-1]["loss"], rel=0.01)
    for one, other in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)
