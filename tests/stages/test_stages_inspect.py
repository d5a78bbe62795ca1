"""inspect: one row per fact to forget, resumed after a kill, the same for any batch, and exact where models agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.common import runtime
from safetensors.torch import load_file, save_file

from meow_lightning.attacks.activation_patching import ActivationPatching
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.fictional import Fictional
from meow_lightning.models.load import save_model
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.stages import inspect
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.inspect import Inspect
from meow_lightning.stages.results.inspect import InspectResult

DATASET = {"split": "forget10", "authors": 20, "candidates": 4, "phrasings": 1, "retain_eval": 4, "seed": 0}
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
LENS = {"_target_": "meow_lightning.attacks.logit_lens.LogitLens", "threshold": 0.05}
PATCHING = {"_target_": "meow_lightning.attacks.activation_patching.ActivationPatching", "threshold": 0.05}
FACTS = Fictional(**DATASET).facts("forget")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three models of random weights: a target model, one whose second layer differs, and another one."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = tokenizer_from([f"Question: {fact.question}\nAnswer: {fact.answer}" for fact in FACTS], vocab_size=400)
    for seed, name in enumerate(("target", "retain")):
        torch.manual_seed(seed)
        model = llama(
            vocab_size=len(tokenizer), hidden_size=32, layers=2, heads=2, intermediate_size=64, context=256,
            end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
        )  # fmt: skip
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
        save_model(model, tokenizer, folder / name / "model", end_ids=frozenset({tokenizer.eos_token_id}))
        if name == "target":
            save_model(model, tokenizer, folder / "hiding" / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    path = folder / "hiding" / "model" / "model.safetensors"
    weights = load_file(path)
    changed = {each: -weight if "layers.1.mlp" in each else weight for each, weight in weights.items()}
    save_file(changed, path, metadata={"format": "pt"})
    return folder


def read(models: Path, folder: Path, attack: dict[str, Any], model: str, **how: Any) -> InspectResult:
    folder.mkdir(exist_ok=True)
    needs = {"model": models / model} | ({"target": models / "target"} if attack is PATCHING else {})
    work = StageContext(
        stage="inspect", label=model, folder=folder, needs=needs, runtime=runtime(**how),
        settings={"attack": attack, "model": {"prompt": PROMPT, "attention": "eager", "dtype": "float32"}},
        inputs={
            "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": [], "limit": None,
            "content": fingerprint(Fictional(**DATASET)),
        },
    )  # fmt: skip
    Inspect().run(work)
    return InspectResult.read(folder)


@pytest.mark.parametrize("attack", [LENS, PATCHING])
def test_every_fact_has_a_row_and_no_batch_size_changes_it(models: Path, tmp_path: Path, attack: dict) -> None:
    one = read(models, tmp_path / "one", attack, "retain", eval_batch_size=1)
    many = read(models, tmp_path / "many", attack, "retain", eval_batch_size=64)
    assert [row.fact for row in one.rows] == [fact.id for fact in FACTS]
    assert all(fact.value in row.value for fact, row in zip(FACTS, one.rows, strict=True))
    for small, large in zip(one.rows, many.rows, strict=True):
        assert len(small.layers) == 2
        assert small.layers == pytest.approx(large.layers, abs=1e-5)


def test_the_target_model_in_its_own_place_loses_nothing(models: Path, tmp_path: Path) -> None:
    rows = read(models, tmp_path / "own", PATCHING, "target").rows
    assert max(abs(lost) for row in rows for lost in row.layers) < 1e-6


def test_a_fact_hidden_by_the_last_layer_is_seen_below_it(models: Path, tmp_path: Path) -> None:
    lens = {name: read(models, tmp_path / name, LENS, name).rows for name in ("target", "hiding", "retain")}
    for target, hiding, retain in zip(*lens.values(), strict=True):
        assert hiding.layers[0] == pytest.approx(target.layers[0], abs=1e-6)
        assert hiding.layers[1] != pytest.approx(target.layers[1], abs=1e-6)
        assert retain.layers[0] != pytest.approx(target.layers[0], abs=1e-6)
    lost = read(models, tmp_path / "patched", PATCHING, "hiding").rows
    assert max(abs(row.layers[0]) for row in lost) < 1e-6 < max(abs(row.layers[1]) for row in lost)


def test_a_killed_stage_keeps_finished_rows_and_ends_with_the_same(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "CHUNK", 8)
    undisturbed = read(models, tmp_path / "undisturbed", PATCHING, "retain")
    original, chunks = ActivationPatching.read, []

    def dying(self: ActivationPatching, model: Any, rows: Any, **how: Any) -> Any:
        chunks.append(len(rows))
        if len(chunks) == 2:
            raise KeyboardInterrupt
        return original(self, model, rows, **how)

    monkeypatch.setattr(ActivationPatching, "read", dying)
    with pytest.raises(KeyboardInterrupt):
        read(models, tmp_path / "killed", PATCHING, "retain")
    assert not (tmp_path / "killed" / InspectResult.file).exists()
    again = read(models, tmp_path / "killed", PATCHING, "retain")
    assert sum(chunks[2:]) == len(FACTS) - chunks[0] < len(FACTS)
    assert again == undisturbed
