from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.hydra import cell
from helpers.results import store_inverted
from helpers.sweeps import swept

from meow_lightning.evaluation.checkpoint_selection import Epoch
from meow_lightning.report.paper_comparison import Published
from meow_lightning.stages.results.model import SelectedEpoch, Selection
from meow_lightning.store.store import Store
from meow_lightning.sweep import summary
from meow_lightning.sweep.summary import page, selected_epoch, selection_picks, show_sweep
from meow_lightning.types import Definition, InvertedFact

SOURCE = Published(
    source="somebody", note="untuned", dataset="tofu", truth_ratio_mean="geometric",
    figures={"phi15": {"forget05": {"kl": {"forget_quality": 0.5}}}},
)  # fmt: skip
KEPT = Epoch(step=8, utility=0.5, log10_p=-0.25, excess_recall=0.0)
VALUES = {"unlearned": {"forget_quality": 0.25, "memo/answers": 0.125}, "target": {"memo/answers": 0.5}}


def words(said: str) -> list[str]:
    """The lines of a terminal, blanks as one."""
    return [" ".join(line.split()) for line in said.splitlines() if line.strip()]


def test_a_table_is_followed_by_its_budget_and_what_others_have_published(tmp_path: Path, capsys) -> None:
    runs = [
        swept("model=phi15", "dataset=tofu", "dataset.split=forget05", f"method={name}", values=VALUES)
        for name in ("kl", "npo")
    ]
    show_sweep(runs, [], published=[SOURCE], reruns=[], outputs=tmp_path)
    (file,) = (tmp_path / "reports").glob("sweep-*/table.md")
    budget = "budget: recipes as in conf, each on seed 0"
    said = words(capsys.readouterr().out)
    assert said[said.index("compared with published numbers") + 2 :] == [
        f"{runs[0].name} forget quality (p) ↑ 0.25 0.50 somebody", budget, "somebody: untuned",
        f"table: {file} (also .csv and .tex, and provenance.json)",
    ]  # fmt: skip
    written, _, made = file.read_text(encoding="utf-8").rpartition("\nmade by ")
    assert made
    assert written.endswith(
        "compared with published numbers\n\n| run | number | ours | published | source |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| {runs[0].name} | forget quality (p) ↑ | 0.25 | 0.50 | somebody |\n\n{budget}\n\nsomebody: untuned\n"
    )
    assert "memorization measures" not in written


def test_a_named_sweep_has_one_folder_of_tables(tmp_path: Path) -> None:
    for value in (0.25, 0.75):
        run = swept("method=kl", values={"unlearned": {"model_utility": value}})
        show_sweep([run], [], published=[], reruns=[], outputs=tmp_path, name="methods")
    folder = tmp_path / "reports" / "sweep-methods"
    assert sorted(path.name for path in folder.iterdir()) == ["provenance.json", "table.csv", "table.md", "table.tex"]
    for name in ("table.md", "table.tex"):
        assert "0.75" in (text := (folder / name).read_text(encoding="utf-8"))
        assert "0.25" not in text


def test_ability_is_in_the_files_table(tmp_path: Path, capsys) -> None:
    run = swept("method=kl", values={"unlearned": {**VALUES["unlearned"], "ability/piqa/acc": 0.625}})
    known = Definition("ability/piqa/acc", "ability.1.piqa.acc", "share", "higher", "It.", "piqa acc", 55, main=True)
    show_sweep(
        [replace(run, results=replace(run.results, definitions=(known,)))], [], published=[], reruns=[],
        outputs=tmp_path,
    )  # fmt: skip
    (file,) = (tmp_path / "reports").glob("sweep-*/table.md")
    assert "| piqa acc ↑ |\n" in file.read_text(encoding="utf-8")
    assert "| 0.625 |\n" in file.read_text(encoding="utf-8")


def test_a_run_without_reference_figures_has_none_beside_it(tmp_path: Path, capsys) -> None:
    show_sweep([swept("method=kl", values=VALUES)], [], published=[SOURCE], reruns=[], outputs=tmp_path)
    said = capsys.readouterr().out
    assert "budget: recipes as in conf, each on seed 0" in said
    assert "published" not in said.replace(str(tmp_path), "")


def test_several_measures_are_shown_side_by_side(tmp_path: Path, capsys) -> None:
    runs = [swept("method=kl", f"memo={name}", values=VALUES) for name in ("clean", "ma")]
    show_sweep(runs, [], published=[], reruns=[], outputs=tmp_path)
    assert "method=kl memo=ma 0.500 0.125 — — —" in words(capsys.readouterr().out)


def test_without_a_finished_run_there_are_only_failures(tmp_path: Path, capsys) -> None:
    reruns = ["python run.py method=kl seed=1"]
    show_sweep([], [("method=kl", ValueError("no such\nluck"))], published=[SOURCE], reruns=reruns, outputs=tmp_path)
    assert words(capsys.readouterr().out) == [
        "failed: method=kl: no such", str(tmp_path / "runs" / "failed" / "method=kl.txt"),
        "rerun: python run.py method=kl seed=1",
    ]  # fmt: skip
    assert not (tmp_path / "reports").exists()


def test_a_page_is_markdown() -> None:
    assert page([("one", [["a", "b"], ["1", "2"]])], ["said"]) == (
        "one\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nsaid\n"
    )


@pytest.fixture
def stored(tmp_path: Path, monkeypatch) -> Path:
    """A store in which a run took the last and the first of three candidates."""
    made = cell()
    filtered, unlearned = made.rounds[0].filtered, made.models.unlearned
    store = Store(root=tmp_path, cache="use")
    for each in (filtered, unlearned):
        store.path(each).mkdir(parents=True)
    store_inverted(store.path(filtered), [InvertedFact("f", place, "Who?", "Ada.") for place in range(3)])
    Selection({"f": [2, 0]}).write(store.path(unlearned))
    SelectedEpoch(4, KEPT).write(store.path(unlearned))
    monkeypatch.setattr(summary, "graph", lambda settings: made)
    return tmp_path


def test_picks_are_those_of_the_stored_training(stored: Path) -> None:
    found = selection_picks(swept("method=meow", store=str(stored)))
    assert found is not None
    assert (found.taken, found.available) == ({"f": [2, 0]}, {"f": 3})
    # what a loop trains is picked anew in every round, among other candidates
    assert selection_picks(swept("method=meow_loop", store=str(stored))) is None
    assert selection_picks(swept("method=kl", store=str(stored))) is None


def test_the_selected_epoch_is_read_where_one_was_selected(stored: Path) -> None:
    best = swept("method=meow", store=str(stored), **{"optim.checkpoint": "best"})
    assert selected_epoch(best) == SelectedEpoch(4, KEPT)
    assert selected_epoch(swept("method=meow", store=str(stored))) is None
    elsewhere = swept("method=meow", store=str(stored / "empty"), **{"optim.checkpoint": "best"})
    assert selected_epoch(elsewhere) is None
