from __future__ import annotations

import json
from pathlib import Path

import pytest

from meow_lightning.cli import main as command_line
from meow_lightning.cli.sweeps import describe, main
from meow_lightning.sweep.listing import FOLDER, SweepState

STATE = SweepState(
    name="methods", claim="All methods on three seeds that no recipe was tuned on, and more words on a second line.",
    runs=108, done=3, command="python run.py sweep=methods " + "optim.lr=1e-4 " * 8, note="",
)  # fmt: skip


def test_a_sweep_is_described_in_80_columns_and_its_command_in_one_line():
    name, *lines = describe(STATE).splitlines()
    assert name == "methods: 108 runs, 3 done, 105 missing"
    assert lines[-1] == f"  {STATE.command}"
    assert " ".join(line.strip() for line in lines[:-1]) == STATE.claim
    assert max(map(len, lines[:-1])) <= 80


def test_all_sweeps_are_listed_with_their_counts(tmp_path: Path, capsys):
    assert main([f"outputs={tmp_path}"]) == 0
    said = capsys.readouterr().out
    for path in FOLDER.glob("*.yaml"):
        assert f"{path.stem}: " in said
    assert "methods: 108 runs, 0 done, 108 missing" in said
    assert not any(tmp_path.iterdir()), "listing writes nothing"


def test_scripts_get_json(tmp_path: Path, capsys):
    assert command_line.main(["sweeps", "methods", "--json", f"outputs={tmp_path}", "seed=3"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert {key: entry[key] for key in ("name", "runs", "done", "missing", "note")} == {
        "name": "methods", "runs": 36, "done": 0, "missing": 36, "note": "",
    }  # fmt: skip
    assert entry["claim"].startswith("All methods ")
    assert entry["command"].endswith(f"sweep=methods outputs={tmp_path} seed=3")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["metods"], "sweep=metods is invalid: expected one of ablation_candidates, "),
        (["methods", "seed=range(0,0)"], "seed=range(0,0) has no values"),
        (["methods", "seed=[0"], "seed=[0 is not a valid option"),
        (["methods", "ouptuts=x"], "ouptuts is not an option. Did you mean outputs?"),
    ],
)
def test_mistakes_are_one_line(words: list[str], said: str, capsys):
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {said}")
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
