"""The benchmark of trainings runs from beginning to end, its ways give equal losses, and it notices other ones."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from meow_lightning.errors import UserError
from meow_lightning.types import Encoded, TokenBatch

FOLDER = Path(__file__).parents[1] / "benchmarks"
WAYS = ("published", "two models", "kept", "buckets")
SMALL = [
    "--hidden-size", "16", "--layers", "1", "--rows", "4", "--global-batch-size", "2", "--steps", "2", "--repeats", "1",
]  # fmt: skip


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
    assert list(found) == [(loss, way) for loss in ("NPO", "NPO+KL") for way in WAYS]
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
    # Both rows of a step take part in every way, and buckets ask the frozen model about retain rows alone too.
    for loss in ("NPO", "NPO+KL"):
        for way in WAYS[:3]:
            row = found[loss, way]
            assert float(row["ms a row"]) == pytest.approx(1000 * float(row["CPU-s a step"]) / 2, abs=0.06)
        assert float(found[loss, "kept"]["x kept"]) == float(found[loss, "published"]["x published"]) == 1
    assert tokens["NPO", "buckets"][1] == 0 < tokens["NPO+KL", "buckets"][1] < tokens["NPO+KL", "buckets"][0]
    assert "of each of the 20 steps of 10 epochs" in done.stdout
    assert re.search(r"padding: \d+% in `kept` \(steps of 2 to 2 rows\) and \d+% in `buckets` \(steps of ", done.stdout)
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


def test_more_steps_than_there_are_is_reported(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["training.py", *SMALL, "--epochs", "1", "--steps", "3"])
    with pytest.raises(UserError, match=r"--steps 3: there are 2 in 1 epochs; say so many or fewer"):
        here.main()


@pytest.mark.parametrize("name", ["forget", "loss", "gradient"])
def test_differences_are_found(
    here: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"loss": 1.0, "forget": 1.0, "gradient": 1.0}

    def found(more: float) -> Any:
        return here.Found([here.Repeat(0.0, [here.Step(1.0, {**values, name: 1.0 + more}, 9, 9, 2)])], 2.0, 1.0)

    monkeypatch.setattr(sys, "argv", ["training.py", *SMALL, "--losses", "NPO"])
    for more, code in ((5e-5, 0), (2e-4, 1)):
        outcomes = {"published": found(0.0), "two models": found(0.0), "kept": found(more), "buckets": found(0.0)}
        monkeypatch.setattr(here, "compare", lambda loss, outcomes=outcomes: outcomes)
        assert here.main() == code
        assert ("error: losses or gradients differ by 2.0e-04, allowed: 1e-04" in capsys.readouterr().err) == bool(code)


def test_a_bucket_is_held_against_the_published_way_on_the_same_batch(
    here: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def step(loss: float) -> Any:
        return here.Step(1.0, {"loss": loss, "forget": 1.0, "gradient": 1.0}, 9, 9, 2)

    def found(loss: float, checked: Any = None) -> Any:
        return here.Found([here.Repeat(0.0, [step(loss)])], 2.0, 1.0, checked)

    monkeypatch.setattr(sys, "argv", ["training.py", *SMALL, "--losses", "NPO"])
    for more, code in ((5e-5, 0), (2e-4, 1)):
        outcomes = {way: found(1.0) for way in WAYS[:3]} | {"buckets": found(7.0, (step(1 + more), step(1.0)))}
        monkeypatch.setattr(here, "compare", lambda loss, outcomes=outcomes: outcomes)
        assert here.main() == code
        assert ("differ by 2.0e-04" in capsys.readouterr().err) == bool(code)


def test_buckets_have_as_many_steps_as_fixed_batches(training: Any) -> None:
    ways = importlib.import_module("training_ways")
    rows = [Encoded((1,) * length, 1) for length in (9, 2, 3, 8, 4, 4, 5, 7)]  # 42 tokens
    task = ways.Task({"forget": rows}, {}, 0, SimpleNamespace(global_batch_size=2, epochs=3))
    fixed, buckets = (ways.plan_of(task, ways.LOSSES["NPO"], task.streams, buckets=wish) for wish in (False, True))
    assert fixed.steps_per_epoch == buckets.steps_per_epoch == 4
    # 2 3 4 4 5 7 8 9 in 4 steps: at least 13 tokens (9 alone, 8 alone leaves 25 in 2; 2 3 4 4 and 5 7 and 8 and 9)
    steps = [sorted(len(row.ids) for row in buckets.step(t)["forget"]) for t in range(4)]
    assert sorted(steps) == [[2, 3, 4, 4], [5, 7], [8], [9]]


def test_differences_are_relative_and_small_parts_count_as_a_thousandth_of_the_loss(training: Any) -> None:
    one = training.Step(1.0, {"loss": 10.0, "forget": 8.0, "retain": 1e-6}, 0, 0, 1)
    other = training.Step(1.0, {"loss": 10.5, "forget": 8.0, "retain": 3e-6}, 0, 0, 1)
    assert training.apart([other], [one], name="loss") == pytest.approx(0.05)
    assert training.apart([other], [one], name="forget") == 0
    assert training.apart([other], [one], name="retain") == pytest.approx(2e-6 / 1e-2)


def test_seconds_are_the_mean_of_medians_and_a_share_of_what_is_done_once(training: Any) -> None:
    def repeat(once: float, *taken: float) -> Any:
        return training.Repeat(once, [training.Step(each, {}, 0, 0, 1) for each in taken])

    found = [repeat(1.0, 1.0, 2.0), repeat(1.0, 9.0, 3.0), repeat(7.0, 2.0, 4.0)]  # medians 2 and 3, once 1
    assert training.seconds(found, over=50) == pytest.approx(2.5 + 0.02)


def test_rows_are_padded_to_the_published_length(training: Any) -> None:
    published = importlib.import_module("published_training")
    row = torch.tensor([[1, 2]])
    wide = published.wide(TokenBatch(row, torch.ones_like(row), torch.tensor([[0, 1]]), torch.tensor([3.0])), pad_id=7)
    assert wide.input_ids_BT.tolist() == [[1, 2, *[7] * 498]]
    assert wide.attention_mask_BT.tolist() == [[1, 1, *[0] * 498]]
    assert wide.loss_mask_BT.tolist() == [[0, 1, *[0] * 498]]
    assert wide.ref_logps_B.tolist() == [3.0]
