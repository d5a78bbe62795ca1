"""The tables of docs/guides/large-models.md: what is worked out by hand, and that they come out."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.data.encoding import estimated_length, estimated_tokens
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.resources.requirements import NOTHING, Requirements
from meow_lightning.resources.training_memory import Memory, ModelDims

FOLDER = Path(__file__).parents[1] / "benchmarks"
ASSUMED = Namespace(
    rows=8, tokens=200, scored=100, max_new_tokens=200, memory=[141.0], share=0.5, peak=0.002, reading=0.5,
    bandwidth=0.001, start=10.0, gpus=[1, 2],
)  # fmt: skip


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("scale")


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MEOW_DATA_DIR"}
    return subprocess.run(
        [sys.executable, str(FOLDER / "scale.py"), *words],
        env=environment | {"PYTHONPATH": str(FOLDER.parent)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_tables_have_equal_columns_and_figures_that_everybody_knows() -> None:
    done = ran()
    assert (done.returncode, done.stderr) == (0, "")
    tables = [part.splitlines() for part in done.stdout.split("\n\n") if part.startswith("| ")]
    assert len(tables) == 4
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 2 + 4
    disk = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in tables[3][2:]}
    assert disk["7B (Llama-2)"][:3] == ["13.5", "13.5", "162"]  # 6.738e9 weights x 2 bytes; 2 checkpoints x 12 bytes
    assert "Time: the rows are TOFU's; say MEOW_DATA_DIR=FOLDER" in done.stdout


def test_a_share_above_one_is_reported() -> None:
    done = ran("--share", "1.2")
    assert done.returncode == 1
    assert done.stderr == "error: --share 1.2 is a share: above 0, at most 1, such as 0.4\n"


def test_shards_are_an_even_part_of_states_and_two_whole_layers(scale: Any) -> None:
    shape = ModelDims(
        parameters=1000, hidden=10, layers=5, heads=1, kv_heads=1, head=10, intermediate=20, vocabulary=25, tied=False,
        gated=True, kept=4,
    )  # fmt: skip
    whole = Memory(weights=800, gradients=400, optimizer=1600, activations=70, logits=30, cache=0, program=5)
    # both ends: 2 * 25 * 10 = 500 weights, a layer (1000 - 500) / 5 = 100; (500 + 200) * 4 bytes are whole
    assert scale.sharded(shape, whole, by=8) == Memory(
        weights=100 + 2800, gradients=50, optimizer=200, activations=70, logits=30, cache=0, program=5
    )


def test_results_go_to_gpus_as_these_become_free_and_after_what_they_need(scale: Any) -> None:
    every = {
        "base": scale.Done("finetune", 4.0, ()), "other": scale.Done("finetune", 1.0, ()),
        "one": scale.Done("unlearn", 3.0, ("base",)), "two": scale.Done("unlearn", 2.0, ("base", "base")),
        "last": scale.Done("report", 0.0, ("one", "two", "other")),
    }  # fmt: skip
    assert [scale.ends(every, gpus) for gpus in (1, 2, 3)] == [10.0, 7.0, 7.0]


class Made:
    """Sizes of one stage, given."""

    def __init__(self, shape: Any, flops: float, written: int) -> None:
        self._shape, self._flops, self._written = shape, flops, written

    def size(self, _: Any) -> Requirements:
        return replace(NOTHING, flops=self._flops)

    def shape(self, _: Any) -> Any:
        return self._shape

    def written(self, _: Any) -> int:
        return self._written


def test_time_is_operations_or_for_what_is_written_the_reading_of_weights(
    scale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = scale.SHAPES["7B (Llama-2)"]
    monkeypatch.setattr(scale, "slots_of", lambda *_: 100)
    training, asking = (Namespace(stage=name) for name in ("unlearn", "predict"))
    # 0.5 * 0.002e12 operations and 0.5 * 0.001e12 bytes a second
    assert scale.seconds(Made(shape, 3e9, 0), training, ASSUMED) == 10 + 3
    passes = 2 * shape.parameters / 0.5e9  # seconds of a pass over all weights
    assert scale.seconds(Made(shape, 3e9, 1000), asking, ASSUMED) == pytest.approx(10 + 10 * passes)
    assert scale.seconds(Made(shape, 1e13, 1000), asking, ASSUMED) == pytest.approx(10 + 1e4)
    assert scale.seconds(Made(shape, 0, 0), asking, ASSUMED) == 0


@pytest.mark.data
@pytest.mark.skipif("MEOW_DATA_DIR" not in os.environ, reason="MEOW_DATA_DIR is not set: TOFU is not here")
def test_a_sweep_shares_what_its_runs_share(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = list(islice(scale.runs("paper_main_tofu"), 3))
    monkeypatch.setattr(scale, "runs", lambda _: runs)
    assert [each.method.name for each in runs] == ["none", "retrain", "grad_ascent"]
    number, every = scale.results("paper_main_tofu", ASSUMED)
    assert number == 3
    trained = [each for each in every.values() if each.stage == "unlearn"]
    assert len(trained) == 1
    # 5 epochs, 6 operations per weight and token, the head's at scored ones, 1e9 a second; Phi's prompt is 10 tokens
    forget, shape = dataset_of(runs[2])[0].facts("forget"), scale.SHAPES["1.3B (Phi-1.5)"]
    tokens, scored = (
        sum(estimated_tokens(fact, 10) for fact in forget),
        sum(estimated_length(f.answer) + 1 for f in forget),
    )
    flops = 6 * 5 * (shape.body_parameters * tokens + shape.head_parameters * scored)
    assert trained[0].seconds == pytest.approx(10 + flops / 1e9)
    assert all(need in every for each in every.values() for need in each.needs)
    assert scale.ends(every, 1) == pytest.approx(sum(each.seconds for each in every.values()))
