"""What can be tested of the comparison with open-unlearning without its code: arguments, rows and the table."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from meow_lightning.config.methods import method_names
from meow_lightning.errors import UserError
from meow_lightning.types import Encoded

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
    ours = {"a": 0.5, "b": 0.5, score: 8.0001, "d": 1.0}
    theirs = {"a": 0.5 + 5e-6, score: 8.0, "b": 0.6, "c": 1, "d": 2.0}
    lines, unknown = beside.table(ours, theirs, {"d": "a cause"})
    assert [line.split(" | ")[-1].strip(" |") for line in lines[2:]] == [
        "", "its norms are summed in float32, ours in float64", "NOT EXPLAINED", "NOT EXPLAINED", "a cause",
    ]  # fmt: skip
    assert unknown == 2
    assert beside.table({"loss": 200.001}, {"loss": 200.0}, {})[1] == 0  # above 1, the share of the value counts
    assert beside.table({"loss": 200.003}, {"loss": 200.0}, {})[1] == 1
    assert beside.table({score: 0.6}, {score: 0.5}, {})[1] == 1  # a known cause explains a small difference alone


def test_every_set_has_the_columns_that_both_programs_ask_for(beside: Any) -> None:
    _, sets = beside.facts_of(3)
    assert set(sets) == set(beside.SETS)
    assert all(len(facts) == 3 for facts in sets.values())
    assert all(fact.perturbed for name in beside.SETS[:-1] for fact in sets[name])
    assert all(fact.paraphrase for name in ("forget", "retain") for fact in sets[name])


def test_other_words_need_the_published_rows(beside: Any) -> None:
    with pytest.raises(UserError, match=r"^--questions=paraphrased needs TOFU: set MEOW_DATA_DIR"):
        beside.facts_of(3, "paraphrased")


def test_our_losses_are_those_of_the_definitions(beside: Any) -> None:
    """The peer's side replaced by plain formulas: what ours are compared with is the same batch."""
    losses, tiny = importlib.import_module("beside_losses"), importlib.import_module("meow_lightning.models.tiny")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32, "context": 32}
    model, start = (tiny.llama(vocab_size=32, end_id=1, pad_id=0, **size) for _ in range(2))
    rows = {name: [Encoded((5, 6, 7 + at, 1), 2) for at in range(2)] for name in ("forget", "retain", "idk")}
    loss, gradient = losses.ours_of_pair(model, start, losses.PAIRS["grad_ascent"], rows, pad_id=0, hidden=False)
    labels = torch.tensor([[-100, -100, 7 + at, 1] for at in range(2)])
    ids = torch.tensor([row.ids for row in rows["forget"]])
    plain = losses._gradient(model, -model(input_ids=ids, labels=labels).loss)
    assert loss == pytest.approx(plain[0], rel=1e-5)
    torch.testing.assert_close(gradient, plain[1], rtol=1e-4, atol=1e-7)
    unseen = losses.ours_of_pair(model, start, losses.PAIRS["grad_ascent"], rows, pad_id=5, hidden=True)[0]
    assert unseen != pytest.approx(loss, rel=1e-5)  # of a prompt's tokens, those equal to padding are not read
    mask = (ids != 5).long()
    assert unseen == pytest.approx(-model(input_ids=ids, attention_mask=mask, labels=labels).loss.item(), rel=1e-5)
    assert {pair.method for pair in losses.PAIRS.values()} <= set(method_names())
