"""What can be tested of the comparison with open-unlearning without its code: arguments, rows and the table."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    return importlib.import_module("beside_open_unlearning")


def test_a_folder_that_is_no_checkout_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / "beside_open_unlearning.py"), "--checkout", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(FOLDER.parent)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: --checkout={tmp_path} holds no src/evals/metrics/memorization.py; give the folder of a clone of "
        "github.com/locuslab/open-unlearning\n"
    )


@pytest.mark.parametrize("words", [[], ["--checkout", ".", "--rows", "0"], ["--checkout", ".", "--prompt", "tag"]])
def test_arguments_that_cannot_be(beside: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        beside.main(words)
    assert "error: " in capsys.readouterr().err


def test_differences_are_explained_or_counted(beside: Any) -> None:
    score = "membership/gradient_norm_score"
    lines, unknown = beside.table({"a": 0.5, "b": 0.5, score: 0.50001}, {"a": 0.5 + 5e-7, score: 0.5, "b": 0.6, "c": 1})
    assert [line.split(" | ")[-1].strip(" |") for line in lines[2:]] == [
        "", "its norms are summed in float32, ours in float64", "NOT EXPLAINED", "NOT EXPLAINED",
    ]  # fmt: skip
    assert unknown == 2
    assert beside.table({score: 0.6}, {score: 0.5})[1] == 1  # a known cause explains a small difference alone


def test_every_set_has_the_columns_that_both_programs_ask_for(beside: Any) -> None:
    _, sets = beside.facts_of(3)
    assert set(sets) == set(beside.SETS)
    assert all(len(facts) == 3 for facts in sets.values())
    assert all(fact.perturbed for name in beside.SETS[:-1] for fact in sets[name])
    assert all(fact.paraphrase for name in ("forget", "retain") for fact in sets[name])
