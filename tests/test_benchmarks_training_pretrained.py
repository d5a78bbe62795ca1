"""The benchmark of training steps beside transformers' Trainer runs to the end; its ways start from equal losses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meow_lightning.data.fictional import Fictional
from meow_lightning.models.tiny import llama, tokenizer_from

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "training_pretrained.py"
WAYS = ("trainer fp32", "trainer bf16", "whole fp32", "fp32", "bf16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small Llama as a plain folder."""
    facts = Fictional(split="forget10", authors=8, candidates=2, phrasings=1, retain_eval=1, seed=0).facts("retain")
    tokenizer = tokenizer_from([f"{each.question} {each.answer}" for each in facts], vocab_size=500)
    model = llama(
        vocab_size=len(tokenizer), hidden_size=16, layers=1, heads=2, intermediate_size=32, context=256,
        end_id=tokenizer.eos_token_id, pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--model", str(folder), "--rounds", "1", "--steps", "1", *words],
        env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip


def test_every_way_makes_steps_that_start_from_the_same_loss(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {line[0]: dict(zip(lines[0][-5:], line[-5:], strict=True)) for line in lines[1:]}
    assert tuple(found) == WAYS
    losses = {way: float(row["first loss"]) for way, row in found.items()}
    assert losses == pytest.approx(dict.fromkeys(WAYS, losses[WAYS[0]]), abs=0.01)
    assert losses["fp32"] == pytest.approx(losses["trainer fp32"], abs=2e-4)
    assert all(int(row["peak MiB"]) > 100 for row in found.values())


def test_more_rows_than_there_are_are_refused(folder: Path) -> None:
    done = run(folder, "--steps", "1000")
    assert done.returncode == 1
    assert "error: --steps 1000: 8008 rows are needed" in done.stderr
