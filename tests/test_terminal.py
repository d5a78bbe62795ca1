from __future__ import annotations

import time
from pathlib import Path

import pytest

from meow_lightning import terminal
from meow_lightning.store import Artifact, write_json
from meow_lightning.terminal import Terminal, remaining

STAGE = Artifact(stage="finetune", label="target", version=1, settings={}, needs={}, inputs={})


@pytest.mark.parametrize(
    ("done", "seconds", "said"),
    [
        (30, 10.0, "2/s, 30 s left"),
        (20, 10.0, "1/s, 80 s left"),
        (12, 10.0, "7 min left"),
        (11, 360.0, "about 9 h left"),
    ],
)
def test_remaining_time_follows_the_rate_since_the_first_word(done, seconds, said):
    # Rates 2, 1, 0.2 and 1/360 per second; 60, 80, 84 and 90 are left: 30, 80, 420 and 32,400 seconds.
    total = {30: 90, 20: 100, 12: 96, 11: 101}[done]
    assert remaining({"done": done, "total": total, "time": seconds}, 0.0, 10) == said


def test_a_pipe_is_told_early_and_then_now_and_then(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "SAY_FIRST", 0.0)
    with Terminal(title="cell") as shown:
        for done in (1, 5, 9):
            write_json(tmp_path / "progress.json", {"done": done, "total": 21, "unit": "steps", "time": time.time()})
            shown.running({STAGE.key: (STAGE, tmp_path)})
            time.sleep(0.02)
    lines = [line for line in capsys.readouterr().out.splitlines() if "…" in line]
    assert len(lines) == 1, "the second word comes only after a while"
    assert lines[0].startswith("  … finetune target: 5 of 21 steps, ")
    assert lines[0].endswith(" s left")


def test_close_calls_and_notes_stand_below_the_stage_that_was_made(tmp_path: Path, capsys):
    manifest = {"seconds": 2.0, "notes": ["memory ran out"], "tally": {"windows": 900, "alone": 3}}
    with Terminal(title="cell") as shown:
        shown.finished(STAGE, manifest, tmp_path, made=True)
        shown.finished(STAGE, {**manifest, "tally": {"windows": 900, "alone": 0}}, tmp_path, made=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "  memory ran out", "  3 of 900 windows were close calls between two tokens, asked again alone"
    ]  # fmt: skip
    assert len(lines) == 5


def test_a_table_too_wide_keeps_the_names_of_its_rows(capsys):
    name, head = "seed=3 method.select.strategy=smallest", "a number of some kind"
    with Terminal(title="sweep") as shown:
        shown.table([["cell", *[head] * 12], [name, *["0.5"] * 12]], title="")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name} ") for line in lines)
    assert not any(line.count(head) == 12 for line in lines), "the heads fit: nothing was tested"
