from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.common import runtime
from helpers.damages import every_damage, harm

from meow_lightning.models.frozen_view import FrozenView
from meow_lightning.models.load import save_model
from meow_lightning.models.lora import adapted_layers, with_lora
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common import adapter_init
from meow_lightning.stages.common.adapter_init import KEPT, initialise
from meow_lightning.stages.common.reference_model import reference_model
from meow_lightning.training.module import GRID
from meow_lightning.types import Fact

FACTS = {
    "forget": [Fact("f", "Where was Ada born?", "Lima."), Fact("g", "What did Ada write?", "12 books.")],
    "retain": [Fact("r", "What is the sea?", "Water."), Fact("s", "Who was born?", "Ada.")],
}
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
Start = Callable[..., torch.nn.Module]


@pytest.fixture
def work(tmp_path: Path, monkeypatch) -> StageContext:
    monkeypatch.setattr(adapter_init, "load_dataset", lambda work: SimpleNamespace(facts=FACTS.get))
    model = {
        "prompt": PROMPT, "precision": "32-true", "attention": "sdpa", "lora": {"rank": 2, "alpha": 4.0, "init": "fila"}
    }  # fmt: skip
    return StageContext(
        stage="unlearn", label="", folder=tmp_path, inputs={}, needs={"start": tmp_path / "start"},
        runtime=runtime(), settings={"model": model, "seed": 0},
    )  # fmt: skip


@pytest.fixture
def start(tiny, codec, work: StageContext) -> Start:
    """Initialise the adapters of a copy of the start model, as a stage does whenever it begins."""

    def made(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        model = with_lora(copy.deepcopy(tiny).to(dtype), rank=2, alpha=4.0, dropout=0.0, seed=0)
        initialise(work, model, codec)  # type: ignore[arg-type]
        return model

    return made


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(left.equal(right) for left, right in zip(one.parameters(), other.parameters(), strict=True))


def test_a_resumed_training_starts_from_the_same_values_without_a_second_pass(start: Start, monkeypatch) -> None:
    first = start()
    monkeypatch.setattr("meow_lightning.training.adapter_init.fisher_row_weights", None)
    assert same(start(), first)


@every_damage
def test_a_damaged_importance_is_computed_anew(start: Start, work: StageContext, damage: str) -> None:
    first = start()
    harm(work.folder / "resume" / KEPT, damage)
    assert same(start(), first)


def test_pissa_needs_no_examples(start: Start, work: StageContext, monkeypatch) -> None:
    fila = start()
    work.settings["model"]["lora"]["init"] = "pissa"
    monkeypatch.setattr(adapter_init, "load_dataset", None)
    assert not same(start(), fila)


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0}])
def test_default_adapters_stay_as_they_are(start: Start, work: StageContext, lora: dict[str, Any] | None) -> None:
    work.settings["model"]["lora"] = lora
    assert not any(layer.up.any() for layer in adapted_layers(start()).values())
    assert not (work.folder / "resume").exists()


def test_reproducible_training_starts_on_its_grid(start: Start, work: StageContext) -> None:
    work.settings["model"]["precision"] = "reproducible"
    for layer in adapted_layers(start(torch.float64)).values():
        assert torch.equal((layer.up / GRID).round() * GRID, layer.up)


def test_the_reference_is_a_copy_of_the_start_model(start: Start, work: StageContext, tiny, tokenizer) -> None:
    save_model(tiny, tokenizer, work.needs["start"] / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    reference = reference_model(work, SimpleNamespace(reference="model"), start())  # type: ignore[arg-type]
    assert not isinstance(reference, FrozenView)
    assert same(reference, tiny)  # type: ignore[arg-type]
