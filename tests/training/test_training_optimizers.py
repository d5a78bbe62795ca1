from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from meow_lightning.data.batch_plan import BatchPlan, StreamData
from meow_lightning.errors import UserError
from meow_lightning.methods.finetune import FineTune
from meow_lightning.training.module import Optim, TrainingModule
from meow_lightning.training.optimizers import check_optimizer, optimizer_of
from meow_lightning.types import Encoded

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list, dict]]:
    """What a stand-in for bitsandbytes, on a machine that has a GPU, was asked for."""
    calls: list[tuple[str, list, dict]] = []

    class Stand(torch.optim.SGD):
        def __init__(self, name: str, weights: Any, settings: dict) -> None:
            calls.append((name, list(weights), settings))
            super().__init__(calls[-1][1], lr=settings["lr"])

    package = ModuleType("bitsandbytes")
    package.__spec__ = ModuleSpec("bitsandbytes", None)
    names = ("AdamW8bit", "PagedAdamW")
    package.optim = SimpleNamespace(**{  # type: ignore[attr-defined]
        name: lambda weights, name=name, **settings: Stand(name, weights, settings) for name in names
    })  # fmt: skip
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return calls


@pytest.mark.parametrize(("kind", "name"), [("adamw8bit", "AdamW8bit"), ("paged", "PagedAdamW")])
def test_bitsandbytes_receives_the_trained_weights_and_all_settings(asked, tiny, kind: Any, name: str) -> None:
    frozen = tiny.model.embed_tokens.weight.requires_grad_(False)
    wish = Optim(optimizer=kind, **SETTINGS, max_grad_norm=0.0, warmup=1, schedule="linear", grid=0.0)
    plan = BatchPlan(
        streams={"learn": StreamData([Encoded((5, 6), 1)])},
        global_batch_size=1,
        batch_tokens=None,
        epochs=3,
        seed=0,
        paired=(),
    )
    module = TrainingModule(model=tiny, method=FineTune(), plan=plan, optim=wish, log_every=1, reference=None)
    made = module.configure_optimizers()
    ((called, weights, settings),) = asked
    assert (called, settings) == (name, SETTINGS)
    assert [id(weight) for weight in weights] == [id(each) for each in tiny.parameters() if each is not frozen]
    assert made["optimizer"].param_groups[0]["lr"] == 0.005  # the schedule is the same: a warm-up of one step


def test_torch_adamw_needs_nothing_else(asked) -> None:
    made = optimizer_of("adamw", [torch.nn.Parameter(torch.ones(2))], **SETTINGS)
    assert type(made) is torch.optim.AdamW
    assert {name: made.defaults[name] for name in SETTINGS} == SETTINGS
    assert asked == []


@pytest.mark.parametrize("kind", ["adamw8bit", "paged"])
def test_missing_numbers_are_explained(kind: Any, asked, monkeypatch: pytest.MonkeyPatch) -> None:
    text = rf"^optim.optimizer={kind} needs a GPU and the package bitsandbytes: pip install 'meow-lightning\[gpu\]'"
    check_optimizer(kind, gpu=True)
    with pytest.raises(UserError, match=text):
        check_optimizer(kind, gpu=False)
    monkeypatch.delitem(sys.modules, "bitsandbytes")
    monkeypatch.setattr("meow_lightning.training.optimizers.find_spec", lambda name: None)
    with pytest.raises(UserError, match=text):
        optimizer_of(kind, [torch.nn.Parameter(torch.ones(2))], **SETTINGS)
    check_optimizer("adamw", gpu=False)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None,
    reason="needs a CUDA device and bitsandbytes",
)
@pytest.mark.parametrize(("kind", "off"), [("adamw8bit", 0.1), ("paged", 1e-3)])
def test_the_real_ones_move_weights_as_adamw_does(kind: Any, off: float) -> None:
    torch.manual_seed(0)
    start, targets = torch.randn(512, 256), torch.randn(512, 256)  # more than 1e5 weights: paged at all
    ends = []
    for each in ("adamw", kind):
        weight = torch.nn.Parameter(start.clone().cuda())
        optimizer = optimizer_of(each, [weight], **SETTINGS)
        for _ in range(20):
            optimizer.zero_grad()
            ((weight - targets.cuda()) ** 2).mean().backward()
            optimizer.step()
        ends.append(weight.detach().cpu())
    plain, other = (end - start for end in ends)
    assert ((plain - other).norm() / plain.norm()).item() < off
