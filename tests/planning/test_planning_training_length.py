from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hydra import SMALL, options

from meow_lightning.pipeline.build import graph
from meow_lightning.planning.preflight import PreflightChecks
from meow_lightning.planning.training_length import training_notes
from meow_lightning.store.store import Store


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    rows = [{"question": f"Where is cat {each}?", "answer": f"Cat {each} is in Lima."} for each in range(12)]
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def notes(tmp_path: Path, *words: str) -> list[str]:
    config = options(*words, small=() if "dataset=jsonl" in words else SMALL)
    run = graph(config)
    preflight = PreflightChecks().of(config, run, Store(root=tmp_path / "store", cache="use"))
    return training_notes(run, preflight, run.goal(config.goal))


def test_a_recipe_for_many_facts_is_little_training_on_few(tmp_path: Path, facts: Path) -> None:
    words = ("dataset=jsonl", f"dataset.forget={facts}", "model.name=mine", "method=meow")
    said, little = notes(tmp_path, *words)
    # 3 inverted facts each are 36 rows, 2 steps per epoch; of 200 facts 600 rows would be 19 steps: 2/19 = 11 %
    assert said == "unlearning takes 40 steps of at most 18 rows (36 rows, 20 epochs) at a learning rate of 1e-05"
    assert little.startswith("this is little training: steps times learning rate are 11% of what the recipe of method=")
    assert "on 200 facts, here 12, " in little
    assert "set optim.epochs=190 or optim.lr=9.5e-05," in little
    for remedy in ("optim.epochs=190", "optim.lr=9.5e-05"):
        assert len(notes(tmp_path, *words, remedy)) == 1, remedy


def test_shipped_facts_are_what_recipes_were_made_for_unless_they_are_changed(tmp_path: Path) -> None:
    assert len(notes(tmp_path)) == 1
    assert len(notes(tmp_path, "optim.lr=1e-6")) == 2
    assert len(notes(tmp_path, "optim.lr=1e-6", "disclaimer=a trial")) == 1


def test_nothing_is_said_where_nothing_is_trained(tmp_path: Path) -> None:
    assert notes(tmp_path, "method=none") == []
    assert notes(tmp_path, "goal=finetune") == []


def test_requests_add_their_steps(tmp_path: Path) -> None:
    alone, together = (
        notes(tmp_path, "method=npo", "optim.epochs=3", "optim.global_batch_size=4", *words)[0]
        for words in ((), ("protocol=sequential", "protocol.requests=2"))
    )
    assert alone.startswith("unlearning takes 6 steps of at most 4 rows (8 rows, 3 epochs)")
    assert together.startswith("unlearning takes 6 steps of at most 4 rows (4 rows, 3 epochs, over 2 requests)")


def test_steps_of_a_number_of_tokens_are_counted(tmp_path: Path) -> None:
    few, many = (
        int(notes(tmp_path, "method=npo", f"optim.batch_tokens={tokens}")[0].split()[2]) for tokens in (2000, 200)
    )
    assert few < many
