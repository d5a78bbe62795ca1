"""A complete run in W&B, offline, as a person would see it; and the dashboard over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers.wandb_run import Recorded, offline_runs, recorded

from meow_lightning.store.jsonl import read_lines
from meow_lightning.tracking.dashboard import dashboard

ROOT = Path(__file__).resolve().parent.parent
ATTACK = "quantise_int4"
AXIS = "unlearn_unlearned/step"


def run(outputs: Path, *words: str, status: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"OMP_NUM_THREADS": "1", "NETRC": str(outputs / "netrc")}
    command = [
        sys.executable, "run.py", "debug=fast", "logger.mode=offline", "trainer.parallel_stages=1",
        "callbacks.evaluate_every_epochs=1", f"outputs={outputs}", *words,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wandb")
    run(folder, f"attacks=[{ATTACK}]")
    return folder


@pytest.fixture(scope="module")
def seen(outputs: Path) -> Recorded:
    return recorded(offline_runs(outputs / "runs")[0])


def stored(outputs: Path, stage: str, name: str) -> Path:
    (path,) = (outputs / "store" / stage).glob(f"*/{name}")
    return path


def test_a_run_is_found_by_its_names(outputs: Path, seen: Recorded) -> None:
    (report,) = (outputs / "store" / "report").iterdir()
    assert seen.run["run_id"] == report.name
    assert seen.run["display_name"] == "tiny-fictional-forget10-meow-s0-debug"
    assert seen.run["job_type"] == "unlearn"
    assert seen.run["tags"] == ["meow", "tiny", "fictional"]
    assert seen.config["method"]["name"] == "meow"
    assert seen.config["optim"]["lr"] == 5e-5
    assert seen.exit_code == 0


def test_curves_are_those_of_the_store_on_the_axis_of_the_training(outputs: Path, seen: Recorded) -> None:
    points = list(read_lines(stored(outputs, "unlearn", "metrics.jsonl")))
    assert seen.axes["unlearn_unlearned/*"] == AXIS
    names = ("loss", "loss/inverted", "lr", "tokens_per_second", "memory_mib", "memo/clean/true_answers")
    for name in (*names, "eval/model_utility", "eval/forget/value_accuracy"):
        expected = [(point["step"], point[name]) for point in points if name in point]
        assert len(expected) >= 2, name
        assert seen.curve(AXIS, f"unlearn_unlearned/{name}") == expected, name


def test_final_numbers_are_those_of_the_report_with_their_direction(outputs: Path, seen: Recorded) -> None:
    values = json.loads(stored(outputs, "evaluate", "results.json").read_text())["values"]
    expected = {
        "forget_quality/log10_p": values["unlearned"]["forget_quality_log10"],
        "forget/value_accuracy": values["unlearned"]["forget/value_accuracy"],
        "target_model/memo/answers": values["target"]["memo/answers"],
        f"attack/{ATTACK}/value_accuracy": values[f"unlearned@{ATTACK}"]["forget/value_accuracy"],
        f"attack/{ATTACK}/retain/rouge_l_recall": values[f"unlearned@{ATTACK}"]["retain/rouge_l_recall"],
    }
    assert {name: seen.summary[name] for name in expected} == pytest.approx(expected)
    directions = {name: seen.directions[name] for name in ("model_utility", "forget/value_accuracy", "memo/answers")}
    assert directions == {"model_utility": "max", "forget/value_accuracy": "min", "memo/answers": "min"}
    assert seen.directions["cost/unlearning_seconds"] == "min"
    assert "forget_quality/questions" not in seen.directions


def test_every_question_is_in_the_table(outputs: Path, seen: Recorded) -> None:
    folder = offline_runs(outputs / "runs")[0]
    table = json.loads((folder / "files" / seen.summary["questions.path"]).read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    results = json.loads(stored(outputs, "evaluate", "results.json").read_text())["values"]
    asked = [row for row in rows if row["set"] == "forget"]
    assert len(asked) == 16
    assert {row["set"] for row in rows} == {"forget", "retain", "real_authors", "world_facts", "holdout"}
    for name, column in (("forget/rouge_l_recall", "ROUGE-L recall"), ("memo/answers", "MEMO")):
        for role, when in (("target", "before"), ("unlearned", "after")):
            mean = sum(row[f"{column} {when}"] for row in asked) / len(asked)
            assert mean == pytest.approx(results[role][name]), (name, role)
        assert all(
            row[f"{column} change"] == pytest.approx(row[f"{column} after"] - row[f"{column} before"]) for row in asked
        )


def test_the_report_and_its_pictures_are_shown(outputs: Path, seen: Recorded) -> None:
    folder = offline_runs(outputs / "runs")[0]
    (report,) = (outputs / "reports").glob("*/report.html")
    assert (folder / "files" / seen.summary["report.path"]).read_text() == report.read_text()
    pictures = {path.stem for path in (report.parent / "figures").glob("*.svg")}
    assert {name for name in pictures if f"figures/{name}.path" in seen.summary} == pictures
    assert {"plane", "memo", "curves"} <= pictures


def keys(seen: Recorded) -> set[str]:
    """Everything that a panel could show."""
    media = {name.removesuffix(".path") for name in seen.summary if name.endswith(".path")}
    return {*seen.summary, *media, *(name for point in seen.history for name in point)}


def option(config: object, path: Iterable[str]) -> object:
    for part in path:
        config = config[part]  # type: ignore[index]
    return config


def test_every_panel_of_the_dashboard_shows_what_the_run_logged(seen: Recorded) -> None:
    panels = [
        panel
        for section in dashboard(group="", attacks=[ATTACK], profiles=["clean"]).sections
        for panel in section.panels
    ]
    assert len(panels) > 20
    logged = keys(seen)
    assert [(panel.title, name) for panel in panels for name in panel.logged if name not in logged] == []
    assert {option(seen.config, name.split(".")) is not None for panel in panels for name in panel.options} == {True}
    curves = {name for panel in panels if panel.kind == "line" for name in panel.numbers}
    assert [name for name in curves if len(seen.curve(AXIS, name)) < 2] == []


def test_a_run_of_stored_results_replays_all_curves_and_may_bring_the_model(outputs: Path, seen: Recorded) -> None:
    out = run(outputs, f"attacks=[{ATTACK}]", "logger.project=other", "logger.log_model=true")
    assert "computed" not in out
    (model,) = (outputs / "store" / "unlearn").glob("*/model")
    assert f"(reads the model from {model})" in out
    again = recorded(offline_runs(outputs / "runs")[-1])
    assert again.run["project"] == "other"
    assert again.run["run_id"] == seen.run["run_id"]
    for name in ("finetune_base/loss", "unlearn_unlearned/loss", "unlearn_unlearned/memo/clean/true_answers"):
        axis = f"{name.partition('/')[0]}/step"
        assert again.curve(axis, name) == seen.curve(axis, name) != []
    assert "model.safetensors" in again.artifacts[f"model-{again.run['run_id']}"]


def test_a_run_that_fails_ends_as_failed_without_final_numbers(outputs: Path) -> None:
    diverging = ("optim.lr=1", "optim.weight_decay=100", "optim.epochs=60")
    run(outputs, *diverging, "logger.project=failing", status=1)
    failed = recorded(offline_runs(outputs / "runs")[-1])
    assert failed.run["project"] == "failing"
    assert failed.exit_code == 1
    assert "model_utility" not in failed.summary
