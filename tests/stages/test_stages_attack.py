"""The stage `attack`: a folder with the attacked model, the same for any micro-batches, and a contract test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.common import runtime
from safetensors.torch import load_file

import meow_lightning as meow
from meow_lightning.attacks.quantise import rounded_to_nearest
from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import fingerprint
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.evaluation.attack_numbers import read_numbers
from meow_lightning.models.layers import first_layers
from meow_lightning.models.load import load_model, save_model
from meow_lightning.models.tiny import llama, tokenizer_from
from meow_lightning.pipeline.worker import run_stage
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.stored_method import method_of, write_method
from meow_lightning.types import ROLES

ROOT = Path(__file__).resolve().parents[2]
DATASET = {"split": "forget10", "authors": 20, "candidates": 4, "phrasings": 1, "retain_eval": 4, "seed": 0}
PROMPT = {"template": "Question: {question}\nAnswer:", "answer_prefix": " ", "system": None, "date": None}
RECIPE = {
    "lr": 1e-2, "epochs": 2, "global_batch_size": 4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0,
    "max_grad_norm": 1.0, "warmup": 0, "schedule": "constant",
}  # fmt: skip
RELEARN = {"_target_": "meow_lightning.attacks.relearn.Relearn", "data": "forget", "share": 1.0}
QUANTISE = {
    "_target_": "meow_lightning.attacks.quantise.Quantise", "bits": 4, "group": 32, "embeddings": False, "head": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage's folder with a model of random weights."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    facts = Fictional(**DATASET).facts("forget")
    tokenizer = tokenizer_from([f"Question: {fact.question}\nAnswer: {fact.answer}" for fact in facts], vocab_size=400)
    model = llama(
        vocab_size=len(tokenizer), hidden_size=32, layers=1, heads=2, intermediate_size=64, context=256,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    save_model(model, tokenizer, folder / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return folder


def attacked(
    folder: Path, start: Path, settings: dict, *, lora: dict | None = None, **how
) -> dict[str, torch.Tensor]:  # fmt: skip
    inputs = {
        "dataset": {"_target_": "meow_lightning.data.fictional.Fictional", **DATASET}, "allow": [], "limit": None,
        "content": fingerprint(Fictional(**DATASET)), "trains": "recipe" in settings,
    }  # fmt: skip
    model = {"prompt": PROMPT, "attention": "eager"}
    model |= {"precision": "reproducible", "lora": lora} if "recipe" in settings else {"dtype": "float32"}
    folder.mkdir(parents=True)
    work = StageContext(
        stage="attack", label="unlearned@x", folder=folder, settings={"model": model, **settings}, inputs=inputs,
        needs={"model": start}, runtime=runtime(**how),
    )  # fmt: skip
    run_stage(work.to_spec())
    return load_file(folder / "model" / "model.safetensors")


def test_relearning_gives_the_same_weights_for_any_micro_batches(tmp_path: Path, start: Path) -> None:
    settings = {"attack": RELEARN, "recipe": RECIPE, "seed": 0}
    one = attacked(tmp_path / "one", start, settings, micro_batch_size=1)
    all_rows = attacked(tmp_path / "all", start, settings, micro_batch_size=64)
    before = load_file(start / "model" / "model.safetensors")
    assert one.keys() == before.keys()
    assert all(torch.equal(one[name], all_rows[name]) for name in one)
    assert any(not torch.equal(one[name], before[name]) for name in one)
    curve = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_a_curve_measures_the_answers_and_changes_no_weight(tmp_path: Path, start: Path) -> None:
    settings = {"attack": RELEARN, "recipe": RECIPE, "seed": 0}
    plain = attacked(tmp_path / "plain", start, settings)
    curved = attacked(tmp_path / "curved", start, {**settings, "curve": {"every": 2, "max_new_tokens": 4}})
    assert all(torch.equal(plain[name], curved[name]) for name in plain)
    curve = [json.loads(line) for line in (tmp_path / "curved" / "metrics.jsonl").read_text().splitlines()]
    measured = [point["step"] for point in curve if "eval/forget/value_accuracy" in point]
    assert measured[:2] == [0, 2]
    assert measured[-1] == max(point["step"] for point in curve)
    assert not any("eval/" in line for line in (tmp_path / "plain" / "metrics.jsonl").read_text().splitlines())


def test_a_quantised_model_is_written_back_as_ordinary_weights(tmp_path: Path, start: Path) -> None:
    after = attacked(tmp_path / "int4", start, {"attack": QUANTISE})
    before = load_file(start / "model" / "model.safetensors")
    for name, weight in before.items():
        expected = rounded_to_nearest(weight, bits=4, group=32) if "proj" in name else weight
        assert torch.equal(after[name], expected), name


PRUNE = {
    "_target_": "meow_lightning.attacks.prune.Prune", "share": 0.5, "parts": ["mlp", "attention"],
    "importance": "first_order", "calibration": 3, "seed": 0,
}  # fmt: skip
RECOVER = {**PRUNE, "_target_": "meow_lightning.attacks.prune.PruneAndRecover"}


@pytest.fixture(scope="module")
def pruned(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stage that pruned the model of ``start``."""
    folder = tmp_path_factory.mktemp("pruned") / "out"
    attacked(folder, start, {"attack": PRUNE, "seed": 0})
    return folder


def test_a_pruned_model_generates_and_is_attacked_further_like_any_other(
    tmp_path: Path, start: Path, pruned: Path
) -> None:
    numbers = {each.definition.name: (each.before, each.after) for each in read_numbers(pruned)}
    whole = load_model(start / "model", dtype="float32", attention="eager").num_parameters()
    assert numbers["model/parameters"] == (whole, whole - 32 * 3 * 32 - 4 * 16 * 32)  # neurons, a head of two
    assert numbers["model/latency"][0] > 0
    model = meow.LanguageModel.from_pretrained(pruned / "model", prompt=PROMPT["template"], device="cpu")
    (score,) = meow.memo.score(model, Fictional(**DATASET).facts("forget")[:1], max_new_tokens=4)
    assert 0 <= score.score <= 1  # MEMO continues every window of the answer
    before = load_file(pruned / "model" / "model.safetensors")
    for name, settings in {
        "int4": {"attack": QUANTISE}, "relearn": {"attack": RELEARN, "recipe": RECIPE, "seed": 0}
    }.items():  # fmt: skip
        after = attacked(tmp_path / name, pruned, settings)
        assert {key: value.shape for key, value in after.items()} == {key: each.shape for key, each in before.items()}
        assert any(not torch.equal(value, before[key]) for key, value in after.items())


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4.0}])
def test_recovery_trains_the_pruned_model_the_same_for_any_micro_batches(
    tmp_path: Path, start: Path, pruned: Path, lora: dict | None
) -> None:
    settings = {"attack": RECOVER, "recipe": {**RECIPE, "epochs": 1, "global_batch_size": 64}, "seed": 0}
    one = attacked(tmp_path / "one", start, settings, lora=lora, micro_batch_size=7)
    all_rows = attacked(tmp_path / "all", start, settings, lora=lora, micro_batch_size=64)
    before = load_file(pruned / "model" / "model.safetensors")
    assert {key: value.shape for key, value in one.items()} == {key: each.shape for key, each in before.items()}
    assert all(torch.equal(one[name], all_rows[name]) for name in one)
    trained = {name for name in one if not torch.equal(one[name], before[name])}
    assert ("model.embed_tokens.weight" in trained) == (lora is None)
    assert {name for name in one if "proj" in name} <= trained
    assert [each.definition.name for each in read_numbers(tmp_path / "one")] == ["model/parameters"]


ULD = {
    "_target_": "meow_lightning.methods.uld.Uld", "alpha": 0.75, "rho": 0.01, "beta": 6.5, "inverted_share": 0.5,
    "layer_fraction": 0.5, "rank": 2, "lora_alpha": 4.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def two_models(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage's folder with a model that answers through its method: a base model and an assistant."""
    folder = tmp_path_factory.mktemp("uld")
    shutil.copytree(start / "model", folder / "model")
    method: Any = instantiate(ULD, allow=())
    model = load_model(start / "model", dtype="float32", attention="eager")
    assistant = first_layers(model, 1)
    with torch.no_grad():
        assistant.get_output_embeddings().weight = torch.nn.Parameter(2 * assistant.get_output_embeddings().weight)
    model.assistant = assistant
    method.export(model, folder / "model")
    write_method(folder / "model", method, ULD)
    return folder


def difference(folder: Path) -> torch.Tensor:
    """What a stored model answers, as logits."""
    method = method_of(folder / "model", allow=())
    answering = method.inference(method.load(folder / "model", dtype="float32", attention="eager")).eval()
    with torch.no_grad():
        return answering(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_relearning_trains_both_models_behind_the_answers(tmp_path: Path, two_models: Path) -> None:
    attacked(
        tmp_path / "out", two_models, {"attack": RELEARN, "recipe": RECIPE, "seed": 0}, gradient_checkpointing=True
    )
    for part in ("", "assistant"):
        before, after = (
            load_file(folder / "model" / part / "model.safetensors") for folder in (two_models, tmp_path / "out")
        )
        assert before.keys() == after.keys()
        assert all(not torch.equal(before[name], after[name]) for name in before if "proj" in name)
    assert difference(tmp_path / "out").isfinite().all()
    curve = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_both_models_behind_the_answers_are_quantised(tmp_path: Path, two_models: Path) -> None:
    attacked(tmp_path / "int4", two_models, {"attack": QUANTISE})
    for part in ("", "assistant"):
        before, after = (
            load_file(folder / "model" / part / "model.safetensors") for folder in (two_models, tmp_path / "int4")
        )
        for name, weight in before.items():
            expected = rounded_to_nearest(weight, bits=4, group=32) if "proj" in name else weight
            assert torch.equal(after[name], expected), name
    assert not torch.equal(difference(tmp_path / "int4"), difference(two_models))


@pytest.mark.parametrize(("lora", "strategy"), [({"rank": 2, "alpha": 4.0}, "auto"), (None, "fsdp")])
def test_two_models_are_trained_neither_with_adapters_nor_sharded(
    tmp_path: Path, two_models: Path, lora: dict | None, strategy: str
) -> None:
    settings = {"attack": RELEARN, "recipe": RECIPE, "seed": 0}
    with pytest.raises(
        UserError, match=r"answers through Uld, .* set model\.lora\.rank=null and trainer\.strategy=ddp"
    ):
        attacked(tmp_path / "out", two_models, settings, lora=lora, strategy=strategy)


MAGNITUDE = '''
"""Magnitude pruning."""

import torch

from meow_lightning.attacks.base import ModelAttack


class Sparsify(ModelAttack):
    def __init__(self, *, share: float) -> None:
        self.share = share

    def transform_model(self, model, ctx):
        ctx.warn(f"pruned {self.share}")
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                least = module.weight.detach().abs().flatten().quantile(self.share)
                module.weight.data[module.weight.abs() < least] = 0.0
        return model
'''


@pytest.mark.slow
def test_a_new_attack_is_one_file_and_one_yaml(tmp_path: Path) -> None:
    """Both lie outside the package, and no list names them; the whole run shows its numbers."""
    (tmp_path / "mine.py").write_text(MAGNITUDE)
    (tmp_path / "conf" / "attacks").mkdir(parents=True)
    node = {"name": "sparsify", "label": "after pruning", "_target_": "mine.Sparsify", "share": 0.9}
    (tmp_path / "conf" / "attacks" / "sparsify.yaml").write_text(f"# @package attacks.sparsify\n{yaml.safe_dump(node)}")
    out = subprocess.run(
        [
            sys.executable, "run.py", "debug=fast", "method=grad_ascent", "limit=4", "logger=none",
            f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "trusted_packages=[mine]", "attacks=[sparsify]",
            f"outputs={tmp_path / 'out'}",
        ],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert "pruned 0.9" in out.stdout
    (stored,) = (tmp_path / "out" / "store" / "evaluate").glob("*/results.json")
    results = json.loads(stored.read_text())
    assert results["conditions"] == {"sparsify": "after pruning"}
    assert [*results["values"]] == [*ROLES, *(f"{role}@sparsify" for role in ROLES)]
    for role in ROLES:
        known = {*results["values"][f"{role}@sparsify"], *results["missing"][f"{role}@sparsify"]}
        assert known >= {*results["values"][role], *results["missing"][role]}
    assert {"forget/rouge_l_recall", "memo/answers"} <= {*results["values"]["unlearned@sparsify"]}
    assert "After pruning" in out.stdout
    (page,) = (tmp_path / "out" / "reports").glob("*/report.html")
    assert "<h3>After pruning</h3>" in page.read_text()
