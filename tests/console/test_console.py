from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from meow_lightning.console import console
from meow_lightning.console.console import Terminal, failure_lines, time_left
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json

STAGE = Artifact(stage="finetune", label="target", version=1, settings={}, needs={}, inputs={})


@pytest.mark.parametrize(
    ("rate", "left", "said"),
    [
        (2.0, 60, "2/s, 30 s left"), (1.0, 80, "1/s, 80 s left"), (0.2, 84, "7 min left"),
        (1 / 360, 90, "about 9 h left"), (None, 90, None), (0.0, 90, None),
    ],
)  # fmt: skip
def test_remaining_time_follows_the_rate(rate, left, said):
    assert time_left({"done": 10, "total": 10 + left, "time": 9.0, "rate": rate}) == said
    assert time_left({"done": 10, "total": 10 + left, "time": 9.0}) is None


def test_failures_with_one_reason_are_one_line():
    failures = [(f"seed={seed}", "no luck" if seed else "no disk") for seed in range(6)]
    assert failure_lines("failed", failures) == [
        "failed: seed=0: no disk", "failed: 5 runs (seed=1; seed=2; seed=3 and 2 more): no luck"
    ]  # fmt: skip


def test_a_pipe_gets_a_line_once_the_time_is_known_and_then_at_intervals(tmp_path: Path, capsys, monkeypatch):
    state = {"total": 21, "unit": "steps", "time": time.time()}
    with Terminal(title="run") as shown:
        for done, rate in ((1, None), (5, 4.0), (9, 4.0)):
            write_json(tmp_path / "progress.json", {**state, "done": done, "rate": rate})
            shown.running({STAGE.key: (STAGE, tmp_path)})
        monkeypatch.setattr(console, "PRINT_EVERY", -1.0)
        write_json(tmp_path / "progress.json", {**state, "done": 11, "rate": None})
        shown.running({STAGE.key: (STAGE, tmp_path)})
    assert [line for line in capsys.readouterr().out.splitlines() if "…" in line] == [
        "  … finetune target: 5 of 21 steps, 4/s, 4 s left",
        "  … finetune target: 11 of 21 steps, time left unknown",
    ]


def test_close_calls_and_notes_stand_below_the_stage_that_was_made(tmp_path: Path, capsys):
    manifest = {"seconds": 2.0, "notes": ["memory ran out"], "counts": {"windows": 900, "alone": 3}}
    with Terminal(title="run") as shown:
        shown.finished(STAGE, manifest, tmp_path, computed=True)
        shown.finished(STAGE, {**manifest, "counts": {"windows": 900, "alone": 0}}, tmp_path, computed=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "  memory ran out", "  3 of 900 windows held near-ties in the argmax, recomputed with batch size 1"
    ]  # fmt: skip
    assert len(lines) == 5


def test_a_table_too_wide_keeps_the_names_of_its_rows(capsys):
    name, head = "seed=3 method.select.strategy=smallest", "a number of some kind"
    with Terminal(title="sweep") as shown:
        shown.table([["run", *[head] * 12], [name, *["0.5"] * 12]], title="")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{name} ") for line in lines)
    assert not any(line.count(head) == 12 for line in lines), "the heads fit: nothing was tested"


TABLE = [["run", *[f"a number of kind {kind} ↑" for kind in range(9)]], ["method=meow seed=3", *["0.062 → 0.109"] * 9]]
NOTE = "note: " + "a long remark that wraps at its words " * 5


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("terminal")
def test_tables_and_prose_fit_80_columns_and_commands_stay_in_one_line(capsys):
    command = "rerun: python run.py method=meow " + "optim.lr=1e-4 " * 6
    with Terminal(title="") as shown:
        shown.table(TABLE, title="Results")
        shown.paragraph(NOTE)
        shown.say(command)
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out).splitlines()
    assert max(len(line) for line in lines if line != command) <= 80
    assert "…" not in "".join(lines)
    assert " ".join(lines).count("0.062 → 0.109") == 9, "every number is there"
    assert command in lines


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("name", ["", "NO_COLOR"])
def test_no_color_turns_colours_off(name, capsys, monkeypatch, tmp_path):
    if name:
        monkeypatch.setenv(name, "1")
    with Terminal(title="run") as shown:
        shown.finished(STAGE, {"seconds": 2.0}, tmp_path, computed=True)
        shown.notice("slow")
    colours = re.findall(r"\x1b\[(?:\d+;)*3\d(?:;\d+)*m", capsys.readouterr().out)
    assert bool(colours) is not bool(name)


def test_a_pipe_gets_neither_colours_nor_wrapped_lines(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Terminal(title="run") as shown:
        shown.finished(STAGE, {"seconds": 2.0}, tmp_path, computed=True)
        shown.paragraph(NOTE * 3)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert NOTE * 3 in said.splitlines()
