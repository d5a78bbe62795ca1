"""The benchmark of trainings runs from beginning to end, its ways give equal losses, and it notices other ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from meow_lightning.types import Rows, UserError

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = ["--hidden", "16", "--layers", "1", "--rows", "4", "--batch", "2", "--steps", "2", "--repeats", "1"]


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("training")


def test_every_way_has_a_row_with_the_published_losses() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "training.py"), *SMALL],
        env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("this project's fictional authors: 4 forget rows of ")
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    found = {(line[0], line[1]): dict(zip(lines[0], line, strict=True)) for line in lines[1:]}
    assert list(found) == [(loss, way) for loss in ("NPO", "NPO+KL") for way in ("published", "two models", "kept")]
    assert all(float(row["off"]) <= 1e-4 for row in found.values())
    assert all(float(row["CPU-s a step"]) > 0 and int(row["MiB above"]) > 0 for row in found.values())

    # 2 rows of 500 tokens a stream; the frozen model is asked about as many, not at all, or about retain rows alone.
    tokens = {key: (int(row["tokens"]), int(row["frozen tokens"])) for key, row in found.items()}
    assert tokens["NPO", "published"] == (1000, 1000)
    assert tokens["NPO+KL", "published"] == (2000, 2000)
    read, frozen = tokens["NPO", "two models"]
    assert read == frozen < 200
    assert tokens["NPO", "kept"] == (read, 0)
    both, frozen = tokens["NPO+KL", "two models"]
    assert both == frozen > read
    assert tokens["NPO+KL", "kept"] == (both, both - read)
    assert "of each of the 20 steps of 10 epochs" in done.stdout
    assert "Npo as it stands asks a frozen model 0 times a step: as in `kept`" in done.stdout


@pytest.fixture
def here(training: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark in this process, which starts no other one and is left as it was."""
    monkeypatch.delenv("MEOW_DATA_DIR", raising=False)
    monkeypatch.setattr(training, "matmul_peak", lambda *_: 1e9)
    threads, loud = torch.get_num_threads(), transformers.logging.get_verbosity()
    with torch.random.fork_rng():
        yield training
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity(loud)


def test_more_steps_than_there_are_is_said(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", *SMALL, "--epochs", "1", "--steps", "3"])
    with pytest.raises(UserError, match=r"--steps 3: there are 2 in 1 epochs; say so many or fewer"):
        here.main()


@pytest.mark.parametrize("name", ["forget", "loss", "gradient"])
def test_what_differs_is_noticed(
    here: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"loss": 1.0, "forget": 1.0, "gradient": 1.0}

    def found(more: float) -> Any:
        return here.Found([here.Repeat(0.0, [here.Step(1.0, {**values, name: 1.0 + more}, 9, 9)])], 2.0, 1.0)

    monkeypatch.setattr(sys, "argv", ["training.py", *SMALL, "--losses", "NPO"])
    for more, code in ((5e-5, 0), (2e-4, 1)):
        outcomes = {"published": found(0.0), "two models": found(0.0), "kept": found(more)}
        monkeypatch.setattr(here, "compare", lambda loss, outcomes=outcomes: outcomes)
        assert here.main() == code
        assert ("error: losses or gradients differ by 2.0e-04, allowed: 1e-04" in capsys.readouterr().err) == bool(code)


def test_differences_are_relative_and_small_parts_count_as_a_thousandth_of_the_loss(training: Any) -> None:
    one = training.Step(1.0, {"loss": 10.0, "forget": 8.0, "retain": 1e-6}, 0, 0)
    other = training.Step(1.0, {"loss": 10.5, "forget": 8.0, "retain": 3e-6}, 0, 0)
    assert training.apart([other], [one], name="loss") == pytest.approx(0.05)
    assert training.apart([other], [one], name="forget") == 0
    assert training.apart([other], [one], name="retain") == pytest.approx(2e-6 / 1e-2)


def test_seconds_are_the_mean_of_medians_and_a_share_of_what_is_done_once(training: Any) -> None:
    def repeat(once: float, *taken: float) -> Any:
        return training.Repeat(once, [training.Step(each, {}, 0, 0) for each in taken])

    found = [repeat(1.0, 1.0, 2.0), repeat(1.0, 9.0, 3.0), repeat(7.0, 2.0, 4.0)]  # medians 2 and 3, once 1
    assert training.seconds(found, over=50) == pytest.approx(2.5 + 0.02)


def test_rows_are_padded_to_the_published_length(training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "TASK", training.Task({}, {}, 7, None), raising=False)
    row = torch.tensor([[1, 2]])
    wide = training.wide(Rows(row, torch.ones_like(row), torch.tensor([[0, 1]]), torch.tensor([3.0])))
    assert wide.ids_BT.tolist() == [[1, 2, *[7] * 498]]
    assert wide.attention_BT.tolist() == [[1, 1, *[0] * 498]]
    assert wide.scored_BT.tolist() == [[0, 1, *[0] * 498]]
    assert wide.reference_B.tolist() == [3.0]
