"""The benchmarks run from beginning to end and say that the engine's texts are the plain ones; speed is not asked."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.model_families import save_family
from helpers.models import tiny_llama
from transformers import AutoTokenizer

from meow_lightning.errors import UserError
from meow_lightning.generation.engine import Continuation

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


def test_a_model_with_a_chat_template_is_asked_in_it_and_loops_take_a_sample(tmp_path: Path) -> None:
    folder = save_family("qwen2_5_1_5b_instruct", tmp_path / "chat", texts=["Where was Ada born? Lima."])
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    words = ["--model", str(folder), "--facts", "2", "--wrong-answers", "0", "--stride", "9", "--loop-windows", "3"]
    words += ["--max-new-tokens", "6", "--generation-batch-size", "8", "--skip", "published"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "memo_engine.py"), *words],
        env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 facts with 2 answers, 3 of them in the loops" in done.stdout
    shortest = re.search(r"prompts of (\d+) to \d+ tokens", done.stdout)
    assert shortest is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bare = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], add_generation_prompt=True)
    assert int(shortest[1]) > len(bare["input_ids"])
    assert [(row["variant"], row["differ"]) for row in rows(done.stdout)] == [
        ("plain", "0"), ("sorted", "0"), ("engine", "0"),
    ]  # fmt: skip


def test_two_texts_are_told_apart_at_their_first_other_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    explain = importlib.import_module("differences").explain
    model = tiny_llama(seed=0, vocab_size=32)
    codec = SimpleNamespace(decode=lambda ids, keep_special: f"t{ids[0]}")
    logits = model(input_ids=torch.tensor([[1, 2, 5]])).logits[0, -1]
    best, second = logits.topk(2).indices.tolist()
    gap = (logits[best] - logits[second]).item()
    plain, other = Continuation((5, best), None), Continuation((5,), second)
    assert explain(model, codec, [1, 2], plain, other) == (
        f"token 2: 't{best}', not 't{second}', whose logit is {gap:.2g} lower (number 2 of all)"
    )
    assert explain(model, codec, [1, 2], plain, Continuation((5, best, 3), None)) == (
        "one text ends after 2 tokens, the other after 3"
    )


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
