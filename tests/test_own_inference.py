"""A method with two models at inference goes through the whole program: one file, one YAML, no list touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.assistant import YAML
from helpers.distributed import job
from safetensors.torch import load_file
from test_spreading import node_of, start, works

from meow_lightning.store.jsonl import read_lines

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "debug=fast", "logger=none", "trainer.parallel_stages=1", "method=assistant", "trusted_packages=[helpers]",
    "memo.verify=6", "evaluation.gradient_norm=true", "callbacks.memo_every_epochs=1",
    "callbacks.evaluate_every_epochs=1", "model.architecture.layers=2", "limit=8",
)  # fmt: skip
pytestmark = [pytest.mark.slow, pytest.mark.ddp]


def run(folder: Path) -> Path:
    """Run the program; the store of the run."""
    conf = folder / "conf" / "method"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "assistant.yaml").write_text(YAML)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    done = subprocess.run(
        [
            sys.executable, "run.py", "--config-dir", str(conf.parent), *WORDS, f"outputs={folder}",
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "store"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("one"))


def artifact(store: Path, stage: str, label: str) -> Path:
    (found,) = (
        path.parent
        for path in (store / stage).glob("*/manifest.json")
        if json.loads(path.read_text())["label"] == label
    )
    return found


def rows(store: Path, role: str) -> list[dict[str, Any]]:
    return list(read_lines(artifact(store, "predict", role) / "rows.jsonl"))


def scores(store: Path, role: str) -> list[dict[str, Any]]:
    return list(read_lines(artifact(store, "score", f"{role} answers") / "scores.jsonl"))


def test_the_big_model_stays_and_the_small_one_lies_beside_it(one: Path) -> None:
    target, unlearned = artifact(one, "finetune", "target") / "model", artifact(one, "unlearn", "unlearned") / "model"
    before, after = (load_file(folder / "model.safetensors") for folder in (target, unlearned))
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)
    assert (unlearned / "assistant" / "model.safetensors").is_file()
    assert json.loads((unlearned / "method.json").read_text()) == {
        "_target_": "helpers.assistant.Assistant", "weight": 0.75,
    }  # fmt: skip


def test_predictions_and_memo_are_those_of_the_difference(one: Path) -> None:
    target, unlearned = rows(one, "target"), rows(one, "unlearned")
    assert len(unlearned) == len(target)
    assert all(a["truth"]["logps"] != b["truth"]["logps"] for a, b in zip(target, unlearned, strict=True))
    assert all(row["gradient"] for row in unlearned if row["set"] == "forget")
    assert [row["windows"] for row in scores(one, "target")] != [row["windows"] for row in scores(one, "unlearned")]
    assert (artifact(one, "verify", "unlearned answers") / "checked.jsonl").is_file()


def test_curves_ask_the_difference(one: Path) -> None:
    points = list(read_lines(artifact(one, "unlearn", "unlearned") / "metrics.jsonl"))
    watched = [point["eval/forget/probability"] for point in points if "eval/forget/probability" in point]
    (results,) = (one / "evaluate").glob("*/results.json")
    unlearned = json.loads(results.read_text())["values"]["unlearned"]
    assert len(watched) == 3  # before, and after each epoch
    assert watched[-1] == pytest.approx(unlearned["forget/probability"], rel=1e-5)
    assert watched[0] != pytest.approx(unlearned["forget/probability"], rel=1e-5)


def test_two_processes_train_and_find_the_same(tmp_path: Path) -> None:
    begin, outcomes = start(tmp_path / "start"), []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        stages = works(
            folder, begin, devices=devices, method={"_target_": "helpers.assistant.Assistant", "weight": 0.75},
            strategy="ddp" if devices > 1 else "auto", evaluated=folder / "unlearn",
        )  # fmt: skip
        job(folder, [], [stages[name] for name in ("unlearn", "predict", "score")], devices=devices)
        weights = load_file(folder / "unlearn" / "model" / "assistant" / "model.safetensors")
        points = list(read_lines(folder / "unlearn" / "metrics.jsonl"))
        outcomes.append((
            weights, [point["loss"] for point in points if "loss" in point],
            list(read_lines(folder / "predict" / "rows.jsonl")), list(read_lines(folder / "score" / "scores.jsonl")),
        ))  # fmt: skip
    (first, losses, answers, memo), (second, same_losses, same_answers, same_memo) = outcomes
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-4
    assert losses == pytest.approx(same_losses, rel=1e-5)
    assert [row["text"] for row in answers] == [row["text"] for row in same_answers]
    for row, same in zip(answers, same_answers, strict=True):
        assert row["truth"]["logps"] == pytest.approx(same["truth"]["logps"], abs=1e-4)
    assert [row["windows"] for row in memo] == [row["windows"] for row in same_memo]


def test_two_processes_train_attached_layers_and_measure_the_same_gram_matrices(tmp_path: Path) -> None:
    begin, outcomes = start(tmp_path / "start"), []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        strategy = "ddp" if devices > 1 else "auto"
        stages = works(folder, begin, devices=devices, method=node_of("eul"), strategy=strategy)
        job(folder, [], [stages["unlearn"]], devices=devices)
        model = folder / "unlearn" / "model"
        files = (model / "model.safetensors", model / "unlearning" / "corrections.safetensors")
        outcomes.append([load_file(file) for file in files])
    for first, second in zip(*outcomes, strict=True):
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            torch.testing.assert_close(tensor, second[name], rtol=1e-3, atol=1e-4)
