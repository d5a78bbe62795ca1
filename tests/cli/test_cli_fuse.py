from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.library import dataset, language_model
from transformers import AutoModelForCausalLM

import meow_lightning as meow
from meow_lightning.cli.fuse import main
from meow_lightning.cli.main import main as program
from meow_lightning.models.pretrained_folder import problem
from meow_lightning.models.unlearning_layers import load_corrections

START = "0123456789ab"


def stored(store: Path, stage: str, key: str, model: meow.LanguageModel, *, start: str | None = None) -> Path:
    """Store a model as a stage does."""
    folder = store / stage / key / "model"
    model.save_pretrained(folder)
    (folder.parent / "manifest.json").write_text(json.dumps({"needs": {"start": start} if start else {}}))
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model and two requests that start from it."""
    folder, facts = tmp_path_factory.mktemp("store"), dataset(limit=3)
    start = language_model(facts)
    stored(folder, "finetune", START, start)
    for key, seed in (("first", 0), ("second", 1)):
        method = meow.methods.Eul(rank=4)
        done = meow.unlearn(start, facts, method=method, lr=1e-2, epochs=2, global_batch_size=3, seed=seed)
        method.export(done.model, stored(folder, "unlearn", key, done, start=START))
    return folder


@pytest.fixture
def requests(store: Path) -> list[str]:
    return [str(store / "unlearn" / key / "model") for key in ("first", "second")]


def test_the_fused_model_is_plain_and_forgets_by_least_squares(
    store: Path, requests: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program(["fuse", *requests, "--output", str(tmp_path / "fused"), "--ridge", "1e-9"]) == 0
    out = capsys.readouterr().out
    assert "second-order statistics (Gram matrices)" in out
    assert out.endswith(f"2 requests fused: model.target={tmp_path / 'fused'} takes the model\n")
    assert problem(tmp_path / "fused") is None
    start, fused = (
        AutoModelForCausalLM.from_pretrained(folder).double()
        for folder in (store / "finetune" / START / "model", tmp_path / "fused")
    )
    (down, one, first), (_, other, second) = (load_corrections(Path(each))[1] for each in requests)
    up = torch.linalg.solve(first + second, first @ one.double() + second @ other.double())
    before, after = (each.model.layers[1].mlp.down_proj.weight.detach() for each in (start, fused))
    expected = before + (down.double() @ up).T @ before
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-5)
    assert (after - before).abs().max() > 1e-4
    assert meow.LanguageModel.from_pretrained(tmp_path / "fused").encoder.end_ids


def test_the_fused_model_of_a_private_dataset_is_its_owners(requests: list[str], tmp_path: Path) -> None:
    Path(requests[0]).chmod(0o700)
    assert main([*requests, "--output", str(tmp_path / "fused")]) == 0
    Path(requests[0]).chmod(0o755)
    assert not (tmp_path / "fused" / "model.safetensors").stat().st_mode & 0o077


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("alone", "leaves nothing to fuse; give the models of at least two runs"),
        ("ridge", "--ridge=0.0 is invalid: expected a number above 0 and at most 1. Did you mean 1e-06?"),
        ("output", "is not empty; choose a new folder"),
        ("plain", "has no unlearning/corrections.safetensors"),
        ("copied", "is not in a store, so the model that it started from is unknown"),
        ("other", "the requests started from different models"),
        ("gone", "does not exist; run the request again to compute it"),
    ],
)
def test_what_cannot_be_fused_is_said_in_one_line(
    case: str, said: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "store"
    shutil.copytree(store, copied)
    first, second = (copied / "unlearn" / key / "model" for key in ("first", "second"))
    words = [str(first), str(second), "--output", str(tmp_path / "fused")]
    if case == "alone":
        del words[1]
    elif case == "ridge":
        words += ["--ridge", "0"]
    elif case == "output":
        words[-1] = str(copied)
    elif case == "plain":
        words[1] = str(copied / "finetune" / START / "model")
    elif case == "copied":
        words[1] = str(shutil.move(second, tmp_path / "moved"))
    elif case == "other":
        shutil.copytree(copied / "finetune" / START, copied / "finetune" / "ba9876543210")
        (second.parent / "manifest.json").write_text(json.dumps({"needs": {"start": "ba9876543210"}}))
    else:
        shutil.rmtree(copied / "finetune")
    assert main(words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fused").exists()
