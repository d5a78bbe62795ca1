"""What a person sees of a run in W&B, read back from the offline run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.wandb_run import Recorded, offline_runs, recorded

from meow_lightning.tracking.base import Number, QuestionTable, RunEnd
from meow_lightning.tracking.disclosure import PAGE, SHAREABLE
from meow_lightning.tracking.wandb import RunName, Wandb

KEY = "0123456789ab"
NUMBERS = (
    Number("forget_quality/log10_p", -1.5, "higher"),
    Number("attack/relearn/value_accuracy", 0.25, "lower"),
    Number("forget_quality/questions", 64.0, "none"),
)
TABLE = QuestionTable(("question", "answer after", "MEMO change"), [["Where?", "In Lima.", -0.5], ["Who?", None, None]])


def sink(folder: Path, *, key: str = KEY, texts: bool = True, log_model: bool = False, private: bool = False) -> Wandb:
    run = RunName(
        project="p", group="tiny_methods", name="run", key=key, job="unlearn", tags=("meow", "tiny", "tiny", "x" * 90)
    )  # fmt: skip
    config = {"seed": 3, "method": {"name": "meow"}}
    return Wandb(
        folder=folder, run=run, mode="offline", config=config, texts=texts, log_model=log_model, private=private
    )  # fmt: skip


def report(folder: Path) -> Path:
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "plane.svg").write_text("<svg>a plane</svg>")
    (folder / PAGE).write_text("<p>every answer</p>")
    (folder / SHAREABLE).write_text("<p>numbers alone</p>")
    return folder


def only(runs: Path) -> Recorded:
    (folder,) = offline_runs(runs)
    return recorded(folder)


def media(runs: Path, seen: Recorded, name: str) -> str:
    (folder,) = offline_runs(runs)
    return (folder / "files" / seen.summary[f"{name}.path"]).read_text()


def test_a_finished_run_shows_names_options_curves_numbers_report_and_questions(tmp_path: Path, no_login: None) -> None:
    opened = sink(tmp_path / "runs")
    for step in (5, 10):
        opened.point("unlearn unlearned", {"step": step, "loss": 1 / step, "lr": 5e-5, "tokens_per_second": 900.0})
    opened.point("unlearn unlearned", {"step": 10, "memo/clean/true_answers": 0.25})
    opened.close(
        RunEnd(outcome="finished", numbers=NUMBERS, report=report(tmp_path / "report"), questions=lambda: TABLE)
    )
    seen = only(tmp_path / "runs")
    names = {name: seen.run[name] for name in ("run_id", "run_group", "job_type", "display_name", "project")}
    assert names == {
        "run_id": KEY, "run_group": "tiny_methods", "job_type": "unlearn", "display_name": "run", "project": "p",
    }  # fmt: skip
    assert seen.run["tags"] == ["meow", "tiny", "x" * 64]
    assert seen.config == {"seed": 3, "method": {"name": "meow"}}
    assert seen.axes == {"unlearn_unlearned/*": "unlearn_unlearned/step"}
    axis = "unlearn_unlearned/step"
    assert seen.curve(axis, "unlearn_unlearned/loss") == [(5, 0.2), (10, 0.1)]
    assert seen.curve(axis, "unlearn_unlearned/lr") == [(5, 5e-5), (10, 5e-5)]
    assert seen.curve(axis, "unlearn_unlearned/tokens_per_second") == [(5, 900.0), (10, 900.0)]
    assert seen.curve(axis, "unlearn_unlearned/memo/clean/true_answers") == [(10, 0.25)]
    assert {each.name: seen.summary[each.name] for each in NUMBERS} == {each.name: each.value for each in NUMBERS}
    assert seen.directions == {"forget_quality/log10_p": "max", "attack/relearn/value_accuracy": "min"}
    assert media(tmp_path / "runs", seen, "report") == "<p>every answer</p>"
    assert media(tmp_path / "runs", seen, "figures/plane") == "<svg>a plane</svg>"
    table = json.loads(media(tmp_path / "runs", seen, "questions"))
    assert table["columns"] == list(TABLE.columns)
    assert table["data"] == [list(row) for row in TABLE.rows]
    assert seen.exit_code == 0
    # Tables lie beside the run, so that it can be uploaded from another machine.
    assert [path for path in (tmp_path / "runs" / "wandb" / "artifacts" / "staging").iterdir() if path.is_file()]


def test_without_texts_there_is_no_question_and_the_page_without_them(tmp_path: Path, no_login: None) -> None:
    def never() -> QuestionTable:
        raise AssertionError("texts were read")

    end = RunEnd(outcome="finished", numbers=NUMBERS, report=report(tmp_path / "report"), questions=never)
    sink(tmp_path / "runs", texts=False, private=True).close(end)
    seen = only(tmp_path / "runs")
    assert "questions.path" not in seen.summary
    assert media(tmp_path / "runs", seen, "report") == "<p>numbers alone</p>"


@pytest.mark.parametrize(("outcome", "code"), [("finished", 0), ("failed", 1), ("interrupted", 255)])
def test_the_state_of_a_run_is_how_it_ended(tmp_path: Path, no_login: None, outcome: str, code: int) -> None:
    sink(tmp_path).close(RunEnd(outcome=outcome))  # type: ignore[arg-type]
    assert only(tmp_path).exit_code == code


def test_runs_of_a_sweep_in_one_process_end_each_in_its_own_state(tmp_path: Path, no_login: None) -> None:
    first = sink(tmp_path, key="a" * 12)
    first.point("unlearn unlearned", {"step": 1, "loss": 3.0})
    first.close(RunEnd(outcome="failed"))
    second = sink(tmp_path, key="b" * 12)
    second.point("unlearn unlearned", {"step": 1, "loss": 2.0})
    second.close(RunEnd(outcome="finished", numbers=NUMBERS))
    one, other = sorted(map(recorded, offline_runs(tmp_path)), key=lambda seen: seen.run["run_id"])
    assert (one.run["run_id"], one.exit_code, one.summary["unlearn_unlearned/loss"]) == ("a" * 12, 1, 3.0)
    assert (other.run["run_id"], other.exit_code, other.summary["unlearn_unlearned/loss"]) == ("b" * 12, 0, 2.0)
    assert "forget_quality/log10_p" not in one.summary


KILLED = """
import os, signal, sys, time
from pathlib import Path
from meow_lightning.tracking.wandb import RunName, Wandb
run = RunName(project="p", group="g", name="run", key="0123456789ab", job="unlearn", tags=())
arguments = {"mode": "offline", "config": {}, "texts": False, "log_model": False, "private": False}
sink = Wandb(folder=Path(sys.argv[1]), run=run, **arguments)
for step in range(1, 501):  # W&B writes blocks of 32 KiB
    sink.point("unlearn unlearned", {"step": step, "loss": 1 / step})
time.sleep(2)
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.mark.parametrize("kind", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_goes_on_under_its_id_on_the_same_axis(tmp_path: Path, no_login: None, kind: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-c", KILLED, str(tmp_path), kind]
    done = subprocess.run(command, env=environment, timeout=120, check=False)
    assert done.returncode == -getattr(signal, kind)
    again = sink(tmp_path)
    for step in (400, 501):  # a resumed training logs its curve again
        again.point("unlearn unlearned", {"step": step, "loss": 1 / step})
    again.close(RunEnd(outcome="finished", numbers=NUMBERS))
    segments = list(map(recorded, offline_runs(tmp_path)))
    assert [seen.run["run_id"] for seen in segments] == [KEY, KEY]
    assert [seen.exit_code for seen in segments] == [None, 0]  # the first one did not end
    first, last = (seen.curve("unlearn_unlearned/step", "unlearn_unlearned/loss") for seen in segments)
    assert first[:2] == [(1, 1.0), (2, 0.5)]
    assert len(first) > 100
    assert last == [(400, 1 / 400), (501, 1 / 501)]  # W&B's own step is 0 again here, the axis is not
    assert [point["_step"] for point in segments[-1].history] == [0, 1]


def test_a_logged_model_is_an_artifact_whose_files_stay_where_they_are(tmp_path: Path, no_login: None) -> None:
    model = tmp_path / "store" / "model"
    (model / "assistant").mkdir(parents=True)
    (model / "model.safetensors").write_bytes(os.urandom(100_000))
    (model / "assistant" / "config.json").write_text("{}")
    line = sink(tmp_path / "runs", log_model=True).close(RunEnd(outcome="finished", model=model))
    assert line.endswith(f" (reads the model from {model})")
    assert only(tmp_path / "runs").artifacts == {f"model-{KEY}": ["assistant/config.json", "model.safetensors"]}
    assert sum(path.stat().st_size for path in (tmp_path / "runs").rglob("*") if path.is_file()) < 100_000
    sink(tmp_path / "other").close(RunEnd(outcome="finished", model=model))
    assert only(tmp_path / "other").artifacts == {}
