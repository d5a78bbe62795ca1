from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.hydra import cell
from helpers.results import store_inverted
from helpers.sweeps import swept

from meow_lightning.config.composition import compose_options
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.report.paper_comparison import Published
from meow_lightning.stages.results.model import SelectedEpoch, Selection
from meow_lightning.store.store import Store
from meow_lightning.sweep.summary import UNQUOTED, FailedRun, page, selected_epoch, selection_picks, show_sweep
from meow_lightning.types import Definition, InvertedFact

SOURCE = Published(
    source="somebody", note="untuned", dataset="tofu", truth_ratio_mean="geometric",
    figures={"phi15": {"forget05": {"kl": {"forget_quality": 0.5}}}},
)  # fmt: skip
KEPT = {"step": 8, "utility": 0.5, "log10_p": -0.25, "excess_recall": 0.0}
VALUES = {"unlearned": {"forget_quality": 0.25, "memo/answers": 0.125}, "target": {"memo/answers": 0.5}}


def words(said: str) -> list[str]:
    """The lines of a terminal, blanks as one."""
    return [" ".join(line.split()) for line in said.splitlines() if line.strip()]


def test_a_table_is_followed_by_its_budget_and_what_others_have_published(tmp_path: Path, capsys) -> None:
    runs = [
        swept("model=phi15", "dataset=tofu", "dataset.split=forget05", f"method={name}", values=VALUES)
        for name in ("kl", "npo")
    ]
    show_sweep(runs, [], published=[SOURCE], outputs=tmp_path)
    (file,) = (tmp_path / "reports").glob("sweep-*/table.md")
    budget = "budget: recipes as in conf, each on seed 0"
    said = words(capsys.readouterr().out)
    assert said[said.index("compared with published numbers") + 2 :] == [
        f"{runs[0].name} forget quality (p) ↑ 0.25 0.50 somebody", budget, "somebody: untuned",
        f"table: {file}", f"page: {file.with_name('index.html')}",
        "beside them table.csv, table.tex, figures and provenance.json",
    ]  # fmt: skip
    written, _, made = file.read_text(encoding="utf-8").rpartition("\nmade by ")
    assert made
    assert (
        "compared with published numbers\n\n| run | number | ours | published | source |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| {runs[0].name} | forget quality (p) ↑ | 0.25 | 0.50 | somebody |\n\n" in written
    )
    assert written.endswith(f"\n\n{budget}\n\nsomebody: untuned\n")
    assert "memorization measures" not in written


def test_what_is_shown_above_all_numbers_of_a_run_is_shown_with_a_sweep_too(tmp_path: Path, capsys) -> None:
    config = compose_options(["debug=fast", "method=kl"])
    run = replace(swept("method=kl", values=VALUES), config=config)
    show_sweep([run, replace(run, name="method=kl seed=1")], [], published=[], outputs=tmp_path, name="tried")
    folder = tmp_path / "reports" / "sweep-tried"
    assert (folder / "table.md").read_text(encoding="utf-8").startswith(f"**{config.disclaimer}**\n\n")
    assert str(config.disclaimer) in (folder / "index.html").read_text(encoding="utf-8")
    assert " ".join(str(config.disclaimer).split()) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("private", [True, False])
def test_tables_of_private_facts_are_their_owners_alone(tmp_path: Path, private: bool) -> None:
    """The command line in ``provenance.json`` may hold words about them."""
    (facts := tmp_path / "facts.jsonl").write_text('{"question": "Who?", "answer": "Ada."}')
    words = ["dataset=jsonl", f"dataset.forget={facts}"] if private else []
    config = compose_options([*words, "method=grad_ascent"])
    run = replace(swept("method=grad_ascent", values=VALUES), config=config)
    show_sweep([run], [], published=[], outputs=tmp_path, name="mine")
    assert bool((tmp_path / "reports" / "sweep-mine").stat().st_mode & 0o077) is not private


def test_a_named_sweep_has_one_folder_of_tables(tmp_path: Path) -> None:
    for value in (0.25, 0.75):
        run = swept("method=kl", values={"unlearned": {"model_utility": value}})
        show_sweep([run], [], published=[], outputs=tmp_path, name="methods")
    folder = tmp_path / "reports" / "sweep-methods"
    files = ["figures", "index.html", "provenance.json", "table.csv", "table.md", "table.tex"]
    assert sorted(path.name for path in folder.iterdir()) == files
    for name in ("table.md", "table.tex", "index.html"):
        assert "0.75" in (text := (folder / name).read_text(encoding="utf-8"))
        assert "0.25" not in text


def test_figures_are_drawn_of_runs_with_both_numbers_and_older_ones_removed(tmp_path: Path) -> None:
    figures = tmp_path / "reports" / "sweep-methods" / "figures"
    both = {"unlearned": {"model_utility": 0.5, "forget_quality_log10": -1.0}}
    known = tuple(
        Definition(name, f"{name}.1", "share", "higher", "It.", name, 1, main=True) for name in both["unlearned"]
    )
    for values, names in ((both, ["plane.svg"]), (VALUES, [])):
        run = swept("method=kl", values=values)
        run = replace(run, results=replace(run.results, definitions=known))
        show_sweep([run], [], published=[], outputs=tmp_path, name="methods")
        assert sorted(path.name for path in figures.iterdir()) == names


def test_a_failed_run_is_missing_in_every_file_and_private_errors_are_not_quoted(tmp_path: Path) -> None:
    failed = [
        FailedRun(name=name, tag=name, error=ValueError(error), rerun="", public=public)
        for name, error, public in (
            ("method=a", "no disk", True), ("method=b", "Ada Lovelace was born in London", False),
        )
    ]  # fmt: skip
    show_sweep(
        [swept("method=kl", values={"unlearned": {"model_utility": 0.25}})], failed, published=[],
        outputs=tmp_path, name="methods",
    )  # fmt: skip
    folder = tmp_path / "reports" / "sweep-methods"
    table, numbers, tex = ((folder / f"table.{kind}").read_text(encoding="utf-8") for kind in ("md", "csv", "tex"))
    assert "\nmissing: method=a: no disk\n" in table
    assert f"\nmissing: method=b: {UNQUOTED}\n" in table
    assert "| method=a | — |" in table
    assert "method=a,,,,,,,,,no disk\n" in numbers
    assert "method=b (0 of 1 seeds) & —" in tex
    shown = (folder / "index.html").read_text(encoding="utf-8")
    assert "sweep of 3 runs" in shown
    assert "2 of 3 runs failed" in shown
    assert "Ada" not in table + numbers + tex + shown


def test_a_number_that_was_not_measured_has_its_reason_below_the_table(tmp_path: Path) -> None:
    run = swept("method=kl", values={"unlearned": {"model_utility": 0.25}})
    absent = replace(run.results, missing={"unlearned": {"memo/answers": "not measured: MEMO is off"}})
    show_sweep([replace(run, results=absent)], [], published=[], outputs=tmp_path, name="methods")
    table = (tmp_path / "reports" / "sweep-methods" / "table.md").read_text(encoding="utf-8")
    assert "\nnot measured: memo answers in all runs (MEMO is off)\n" in table


def test_ability_is_in_the_files_table(tmp_path: Path, capsys) -> None:
    run = swept("method=kl", values={"unlearned": {**VALUES["unlearned"], "ability/piqa/acc": 0.625}})
    known = Definition("ability/piqa/acc", "ability.1.piqa.acc", "share", "higher", "It.", "piqa acc", 55, main=True)
    show_sweep(
        [replace(run, results=replace(run.results, definitions=(known,)))], [], published=[],
        outputs=tmp_path,
    )  # fmt: skip
    (file,) = (tmp_path / "reports").glob("sweep-*/table.md")
    assert "| piqa acc ↑ |\n" in file.read_text(encoding="utf-8")
    assert "| 0.625 |\n" in file.read_text(encoding="utf-8")


def test_a_run_without_reference_figures_has_none_beside_it(tmp_path: Path, capsys) -> None:
    show_sweep([swept("method=kl", values=VALUES)], [], published=[SOURCE], outputs=tmp_path)
    said = capsys.readouterr().out
    assert "budget: recipes as in conf, each on seed 0" in said
    assert "published" not in said.replace(str(tmp_path), "")


def test_several_measures_are_shown_side_by_side(tmp_path: Path, capsys) -> None:
    runs = [swept("method=kl", f"memo={name}", values=VALUES) for name in ("clean", "ma")]
    show_sweep(runs, [], published=[], outputs=tmp_path)
    assert "method=kl memo=ma 0.500 0.125 — — —" in words(capsys.readouterr().out)


def test_without_a_finished_run_there_are_only_failures(tmp_path: Path, capsys) -> None:
    command = "python run.py method=kl seed=1"
    run = FailedRun(name="method=kl", tag="kl-s1", error=ValueError("no such\nluck"), rerun=command, public=False)
    show_sweep([], [run], published=[SOURCE], outputs=tmp_path)
    assert words(capsys.readouterr().out) == [
        "failed: method=kl: no such", str(tmp_path / "runs" / "failed" / "kl-s1.txt"), f"rerun: {command}",
    ]  # fmt: skip
    assert not (tmp_path / "reports").exists()


def test_a_page_is_markdown() -> None:
    assert page([("one", [["a", "b"], ["1", "2"]])], ["said"], ["only a try"]) == (
        "**only a try**\n\none\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nsaid\n"
    )


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, RunGraph]:
    """A store in which a run took the last and the first of three candidates."""
    made = cell()
    filtered, unlearned = made.rounds[0].filtered, made.models.unlearned
    store = Store(root=tmp_path, cache="use")
    for each in (filtered, unlearned):
        store.path(each).mkdir(parents=True)
    store_inverted(store.path(filtered), [InvertedFact("f", place, "Who?", "Ada.") for place in range(3)])
    Selection({"f": [2, 0]}).write(store.path(unlearned))
    SelectedEpoch(4, KEPT).write(store.path(unlearned))
    return tmp_path, made


def test_picks_are_those_of_the_stored_training(stored: tuple[Path, RunGraph]) -> None:
    folder, made = stored
    found = selection_picks(swept("method=meow", store=str(folder)), made)
    assert found is not None
    assert (found.taken, found.available) == ({"f": [2, 0]}, {"f": 3})
    # what a loop trains is picked anew in every round, among other candidates
    assert selection_picks(swept("method=meow_loop", store=str(folder)), made) is None
    assert selection_picks(swept("method=kl", store=str(folder)), made) is None


def test_the_selected_epoch_is_read_where_one_was_selected(stored: tuple[Path, RunGraph]) -> None:
    folder, made = stored
    best = swept("method=meow", store=str(folder), **{"optim.checkpoint": "best"})
    assert selected_epoch(best, made) == SelectedEpoch(4, KEPT)
    assert selected_epoch(swept("method=meow", store=str(folder)), made) is None
    elsewhere = swept("method=meow", store=str(folder / "empty"), **{"optim.checkpoint": "best"})
    assert selected_epoch(elsewhere, made) is None
