"""The benchmarks run from beginning to end and say that the engine's texts are the plain ones; speed is not asked."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from meow_lightning.errors import UserError

FOLDER = Path(__file__).parents[1] / "benchmarks"


def rows(output: str) -> list[dict[str, str]]:
    """The lines of the one table in an output, by column."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("| ")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_every_variant_has_a_row_and_says_the_plain_texts(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    words = ["--models", "tiny", "--facts", "2", "--generation-batch-size", "2", "64", "--steps", "60", "--cache"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "memo_engine.py"), *words, str(tmp_path)],
        env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 facts with 10 answers" in done.stdout
    assert "says 100% of the true ones" in done.stdout
    found = rows(done.stdout)
    assert [(row["variant"], row["slots"]) for row in found] == [
        ("published", "1"), ("plain", "1"), ("sorted", "32"), ("engine", "2"), ("engine", "64"),
    ]  # fmt: skip
    assert [(row["differ"], row["score off"]) for row in found[1:]] == [("0", "0")] * 4
    assert len(list(tmp_path.iterdir())) == 1  # kept for the next time


@pytest.fixture
def memo_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("memo_gpu")


@pytest.mark.parametrize("budget", ["remainder", "3"])
def test_gpu_code_runs_on_the_cpu_too(
    memo_gpu: Any, budget: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--like", "tiny", "--device", "cpu", "--facts", "1"]
    words += ["--generation-batch-size", "4", "--max-new-tokens", budget]
    monkeypatch.setattr(sys, "argv", ["memo_gpu.py", *words])
    monkeypatch.setitem(memo_gpu.COPIED, "cpu", 2**20)
    with torch.random.fork_rng():
        memo_gpu.main()
    [row] = rows(capsys.readouterr().out)
    assert (row["like"], row["slots"]) == ("tiny", "4")
    assert int(row["windows"]) >= 10
    assert int(row["calls"]) >= 3


def test_the_budget_is_what_the_text_has_left(memo_gpu: Any) -> None:
    cut = [memo_gpu.Shown([1] * 5, "left", 7), memo_gpu.Shown([1] * 8, "left", 4)]
    assert memo_gpu.budgets_of(cut, budget="remainder", context=10) == [5, 2]
    assert memo_gpu.budgets_of(cut, budget="remainder", context=100) == [7, 4]
    assert memo_gpu.budgets_of(cut, budget="3", context=100) == [3, 3]


def test_without_a_gpu_the_reason_is_reported(memo_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["memo_gpu.py"])
    with pytest.raises(UserError, match=r"device=cuda: this machine shows no CUDA device; say --device cpu"):
        memo_gpu.main()
