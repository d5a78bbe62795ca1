from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meow_lightning.cli.leaderboard import main
from meow_lightning.stages.results.evaluate import EvaluateResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.sweep.leaderboard import stored_runs
from meow_lightning.types import Definition, Results

UTILITY = "model_utility"
SECRET = "Ada Lovelace lives at 12 Gold Street"
DEFINITIONS = (Definition(UTILITY, "u.1", "share", "higher", "It.", "utility", 1, main=True),)


def plain(stage: str, label: str = "", **settings: Any) -> Artifact:
    return Artifact(stage=stage, label=label, version=1, settings=settings, needs={}, inputs={})


def add_run(
    outputs: Path, method: str, utility: float, *, seed: int = 0, public: bool = True, note: str = "",
    needs: tuple[str, str] = ("target", "unlearned"),
) -> Path:  # fmt: skip
    """Store the metrics and the report of a run, and publish its page; returns the folder of the metrics."""
    store = Store(root=outputs / "store", cache="use")
    metrics = Artifact("evaluate", "", 7, {"of": f"{method}{seed}{public}"}, {}, {}, {"leakage": 3})
    if store.manifest(metrics) is None:
        results = Results(definitions=DEFINITIONS, values={"unlearned": {UTILITY: utility}})
        draws = {UTILITY: np.array([utility, utility + 0.125])}
        EvaluateResult(results, {"unlearned": {UTILITY: [0.0, 1.0]}}, draws).write(store.begin(metrics))
        store.finish(metrics, {"items": 64})
    options = {
        "dataset": {"name": "jsonl", "split": "forget10", "forget": SECRET, "seed": seed}, "model": {"name": "tiny"},
        "evaluation": {"protocol": "none", "confidence_level": 0.5}, "method": {"name": method}, "optim": {"lr": 1e-3},
        "seed": seed,
    }  # fmt: skip
    models = {name: plain("finetune", name, of=name) for name in ("target", "unlearned")}
    report = Artifact(
        "report", "", 8,
        {"name": f"own-{method}", "results_key": metrics.key, "options": options, "public": public, "notes": [note],
         "disclaimer": SECRET if not public else None},
        {"target": models[needs[0]], "unlearned": models[needs[1]]}, {},
    )  # fmt: skip
    store.begin(report)
    store.finish(report, {})
    page = outputs / "reports" / f"own-{method}-{report.key[:6]}" / ("report.html" if public else "shareable.html")
    page.parent.mkdir(parents=True)
    page.write_text("")
    return store.path(metrics)


def test_every_finished_run_is_on_the_leaderboard(tmp_path: Path, capsys) -> None:
    for seed, utility in ((0, 0.25), (1, 0.75)):
        add_run(tmp_path, "a", utility, seed=seed)
    add_run(tmp_path, "none", 0.875, needs=("target", "target"))
    assert main([f"outputs={tmp_path}"]) == 0
    said, page, _ = capsys.readouterr().out.splitlines()
    assert said.startswith("3 finished runs in 1 group; ")
    folder = tmp_path / "reports" / "leaderboard"
    assert page == f"leaderboard: {folder / 'leaderboard.html'}"
    assert sorted(path.name for path in folder.iterdir()) == [f"leaderboard.{kind}" for kind in ("csv", "html", "md")]
    text = (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert "| method=none | 0.875 [0.000, 1.000] | [seed 0](../own-none-" in text, "a reference is not marked"
    # The samples of two seeds differ by 0.125 within a seed and by 0.5 between them.
    assert "| method=a | **0.500** [" in text
    assert text.count("/report.html)") == 3
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main([f"outputs={tmp_path}"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_private_runs_are_numbers_only_and_their_page_is_the_one_to_share(tmp_path: Path, capsys) -> None:
    add_run(tmp_path, "a", 0.25, public=False)
    assert main([f"outputs={tmp_path}"]) == 0
    folder = tmp_path / "reports" / "leaderboard"
    for path in folder.iterdir():
        assert "Ada" not in path.read_text(encoding="utf-8")
        assert "Gold Street" not in path.read_text(encoding="utf-8")
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077
    assert "/shareable.html)" in (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert "disclaimer: in the reports" in (folder / "leaderboard.md").read_text(encoding="utf-8")


def test_of_two_reports_on_one_result_the_latest_counts_and_damaged_ones_are_left_out(tmp_path: Path, capsys) -> None:
    add_run(tmp_path, "a", 0.25)
    add_run(tmp_path, "a", 0.25, note="another text")
    damaged = add_run(tmp_path, "b", 0.5)
    (damaged / "results.json").write_text("{}")
    runs, skipped = stored_runs(tmp_path / "store", tmp_path / "reports")
    assert ([run.entry.options["method"]["name"] for run in runs], skipped) == (["a"], 1)
    assert main([f"outputs={tmp_path}"]) == 0
    assert "; 1 run left out, whose results are missing or unreadable." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"), [([], " has no finished run; name another with "), (["sed=1"], "sed is not")]
)
def test_an_empty_store_and_mistakes_are_one_line(words: list[str], said: str, tmp_path: Path, capsys) -> None:
    assert main([f"outputs={tmp_path}", *words]) == 1
    shown = capsys.readouterr()
    assert said in shown.err
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
    assert not any(tmp_path.iterdir())
