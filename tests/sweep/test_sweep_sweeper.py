from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from meow_lightning import experiment
from meow_lightning.errors import UserError
from meow_lightning.report.sweep_tables import Swept
from meow_lightning.sweep import published_results as expected_module
from meow_lightning.sweep import summary as sweep_module
from meow_lightning.sweep.sweeper import combinations, distinct_names, rerun_command
from meow_lightning.types import Results

ROOT = Path(__file__).resolve().parents[2]


def test_combinations_are_all_of_them_the_last_word_fastest():
    assert combinations(["method=meow,none", "seed=range(0,2)", "logger=none"], None) == [
        ["method=meow", "seed=0", "logger=none"],
        ["method=meow", "seed=1", "logger=none"],
        ["method=none", "seed=0", "logger=none"],
        ["method=none", "seed=1", "logger=none"],
    ]


def test_lists_and_quotes_are_no_sweeps():
    assert combinations(["optim.betas=[0.9,0.95]", "outputs='a,b'"], None) == [
        ["optim.betas=[0.9,0.95]", "outputs='a,b'"]
    ]
    assert combinations([], None) == [[]]


def test_an_interval_is_refused():
    with pytest.raises(
        UserError, match=r"optim.lr sweeps over an interval; this sweeper supports lists, such as optim.lr=1,2,3"
    ):
        combinations(["optim.lr=interval(0,1)"], None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["seed=range(0,0)"],
            r"^seed=range\(0,0\) has no values: a range excludes its end",
        ),
        (["seed=range(0,1,0)"], r"^seed=range\(0,1,0\) is infinite: set a step other than 0$"),
        (["seed=range(0,1e9)"], r"^this sweep has more than 10,000 runs; the maximum is 10,000, so split it into "),
        (["seed=shuffle(range(0,1e9))"], r"^this sweep has more than 10,000 runs"),
        (["seed=range(0,101)", "limit=range(1,101)"], r"^this sweep has 10,100 runs; the maximum is 10,000"),
    ],
)
def test_a_sweep_of_nothing_or_of_too_much_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        combinations(words, None)
    assert len(combinations(["seed=range(0,100)", "limit=range(1,101)"], None)) == 10_000


@pytest.fixture
def sweep(monkeypatch, tmp_path):
    """Runs ``run.py -m`` with some words in this process, only noting the runs; gives the status and the runs."""
    ran: list[tuple[str, int]] = []

    def fake(cfg):
        ran.append((cfg.method.name, cfg.seed))
        if cfg.method.name == "none":
            raise UserError("mend [me] please\nsecond line")
        if cfg.method.name == "retrain":
            raise ValueError("no such luck")

    def start(*words: str) -> tuple[object, list[tuple[str, int]]]:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", ["run.py", "-m", *words, f"outputs={tmp_path}"])
        monkeypatch.setattr(experiment, "run_experiment", fake)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        return end.value.code, ran

    yield start
    GlobalHydra.instance().clear()


def test_a_failing_run_lets_the_others_run_and_ends_non_zero_with_the_list(sweep, capsys):
    status, ran = sweep("method=none,retrain,meow", "seed=0,1")
    assert ran == [("none", 0), ("none", 1), ("retrain", 0), ("retrain", 1), ("meow", 0), ("meow", 1)]
    assert status == 1
    said = capsys.readouterr()
    assert "failed: method=none seed=0" in said.out
    assert ": mend [me] please" in said.out
    assert ": no such luck" in said.out
    assert said.err.startswith("error: 4 of 6 runs failed: method=none seed=0")
    assert "method=meow" not in said.err
    assert len(said.err.splitlines()) == 1


def test_a_sweep_that_goes_well_ends_with_zero(sweep, capsys):
    status, ran = sweep("method=meow,grad_ascent")
    assert ran == [("meow", 0), ("grad_ascent", 0)]
    assert status == 0
    assert capsys.readouterr().err == ""


def test_a_typo_in_the_last_run_costs_no_work(sweep, capsys):
    status, ran = sweep("method=meow,meoww")
    assert (status, ran) == (1, [])
    err = capsys.readouterr().err
    assert err.startswith("error: method=meoww is invalid: expected one of altpo, ")
    assert ", meow, " in err
    assert err.endswith(". Did you mean meow?; this affects 1 of 2 runs: method=meoww\n")
    assert len(err.splitlines()) == 1


def test_a_run_that_cannot_be_planned_costs_no_work(sweep, capsys):
    assert sweep("method=meow,retrain", "optim.epochs=1,-1") == (1, [])
    assert capsys.readouterr().err == (
        "error: optim.epochs=-1 is invalid: expected a number from 0 to 1,000,000; this affects 2 of 4 runs: "
        "method=meow optim.epochs=-1; method=retrain optim.epochs=-1; none was started\n"
    )
    assert sweep("method=meow,none", "optim.lr=1e8") == (1, [])
    assert capsys.readouterr().err.startswith("error: optim.lr=")


def test_an_interval_is_one_line(sweep, capsys):
    status, ran = sweep("optim.lr=interval(0,1)")
    assert (status, ran) == (1, [])
    assert capsys.readouterr().err == (
        "error: optim.lr sweeps over an interval; this sweeper supports lists, such as optim.lr=1,2,3\n"
    )


def test_a_run_is_named_by_what_tells_it_from_the_others():
    runs = combinations(["logger=none", "method=meow,none", "seed=0,1"], None)
    assert distinct_names(runs) == [
        "method=meow seed=0",
        "method=meow seed=1",
        "method=none seed=0",
        "method=none seed=1",
    ]
    assert distinct_names([["logger=none", "seed=0"]]) == ["logger=none seed=0"]
    assert distinct_names([["seed=0", "model.prompt.template='{question}\n'"]]) == [
        r"seed=0 model.prompt.template='{question}\n'"  # on one line
    ]


def test_a_finished_run_is_handed_on_with_its_words_and_resolved_options(monkeypatch, tmp_path):
    told: list[Swept] = []
    numbers = Results(definitions=(), values={})
    monkeypatch.setattr(experiment, "run_experiment", lambda cfg: None if cfg.method.name == "none" else numbers)
    monkeypatch.setattr(sweep_module, "show_sweep", lambda finished, failed, **unused: told.extend(finished))
    words = ["run.py", "sweep=tiny_ascent", "method=none,meow", "optim.epochs=4", "seed=3", f"outputs={tmp_path}"]
    monkeypatch.setattr(sys, "argv", words)
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    GlobalHydra.instance().clear()
    (found,) = told
    assert found.name == "method=meow"
    assert found.words == {
        "sweep": "tiny_ascent", "method": "meow", "optim.epochs": "4", "seed": "3", "outputs": str(tmp_path)
    }  # fmt: skip
    assert found.results is numbers
    assert found.config.dataset.split == "forget10"
    assert found.config.optim.epochs == 4
    assert found.config.store == f"{tmp_path}/store"


@pytest.mark.parametrize(
    ("words", "group"),
    [
        (["sweep=tiny_ascent", "seed=3"], "tiny_ascent"),
        (["sweep=tiny_ascent", "seed=3", "logger.group=mine"], "mine"),
        (["-m", "method=meow,none"], None),
    ],
)
def test_runs_of_a_named_sweep_are_one_group_in_wandb(monkeypatch, tmp_path, words, group):
    groups: list[str | None] = []
    monkeypatch.setattr(experiment, "run_experiment", lambda cfg: groups.append(cfg.logger.group))
    monkeypatch.setattr(sys, "argv", ["run.py", *words, f"outputs={tmp_path}"])
    GlobalHydra.instance().clear()
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    GlobalHydra.instance().clear()
    assert len(groups) > 1
    assert set(groups) == {group}


def test_only_wandb_has_groups(sweep, tmp_path):
    status, ran = sweep("sweep=tiny_ascent", "method=meow", "seed=3", "logger=none")
    assert (status, set(ran)) == (0, {("meow", 3)})


def test_published_figures_that_cannot_be_read_cost_no_work(sweep, monkeypatch, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("figures: 1")
    monkeypatch.setattr(expected_module, "FOLDER", tmp_path)
    status, ran = sweep("method=meow,grad_ascent")
    assert (status, ran) == (1, [])
    assert capsys.readouterr().err == f"error: {tmp_path}/mine.yaml: source must be a string\n"


def words_of(said: str) -> list[str]:
    """The lines of a terminal, blanks as one."""
    return [" ".join(line.split()) for line in said.splitlines() if line.strip()]


def test_the_plan_of_a_sweep_counts_shared_stages_once_and_makes_nothing(sweep, tmp_path, capsys):
    status, ran = sweep("method=meow,none", "plan=true", "debug=fast")
    assert (status, ran) == (0, [])
    said = words_of(capsys.readouterr().out)
    assert said[:2] == ["plan of 2 runs", "stage of key state time memory disk for"]
    # meow's fifteen; `none` shares seven of them and has two of its own
    rows = said[2 : said.index("stages: 17 to compute, 0 cached")]
    assert len(rows) == 17
    shared = [row.partition(" ")[0] for row in rows if row.endswith("method=meow and 1 more")]
    assert shared == ["finetune", "finetune", "predict", "finetune", "predict", "score", "score"]
    assert [row.split()[0] for row in rows if row.endswith("method=none")] == ["evaluate", "report"]
    assert "time: unknown until a first batch is measured" in said
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_be_is_one_line_in_the_plan_of_the_others(sweep, capsys):
    status, ran = sweep("method=none", "seed=0,-1", "trainer.parallel_stages=1,0", "plan=true", "debug=fast")
    assert (status, ran) == (1, [])
    said = capsys.readouterr()
    small = "seed=-1 is invalid: expected a number from 0 to 2,147,483,647"
    assert [line for line in said.out.splitlines() if line.startswith("failed: ")] == [
        "failed: seed=0 trainer.parallel_stages=0: trainer.parallel_stages=0 is invalid: expected a number from 1 to "
        "10,000",
        f"failed: seed=-1 trainer.parallel_stages=1: {small}",
        f"failed: seed=-1 trainer.parallel_stages=0: {small}; trainer.parallel_stages=0 is invalid: expected a number "
        "from 1 to 10,000",
    ]
    assert "stages: 9 to compute, 0 cached" in said.out
    assert said.err == (
        "error: 3 of 4 runs failed: seed=0 trainer.parallel_stages=0; "
        "seed=-1 trainer.parallel_stages=1; seed=-1 trainer.parallel_stages=0\n"
    )


def test_the_status_of_a_sweep_ends_well_whatever_its_runs(sweep, tmp_path, capsys):
    status, ran = sweep("method=none,retrain", "seed=0,-1", "status=true", "debug=fast")
    assert (status, ran) == (0, [])
    said = words_of(capsys.readouterr().out)
    assert said[2] == "method=none seed=0 not started 0/9 next: finetune base"
    assert "4 runs: 2 not started, 2 failed" in said
    assert said[-1].startswith("invalid: 2 runs (method=none seed=-1; method=retrain seed=-1): seed=-1 is invalid: ")
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_had_are_one_line_of_all_runs(sweep, tmp_path, capsys):
    status, _ = sweep("model=own", f"model.target={tmp_path / 'mine'}", "method=none,retrain", "plan=true")
    assert status == 1
    said = capsys.readouterr().out
    assert [line.partition(": model.target=")[0] for line in said.splitlines()][1:] == [
        "failed: 2 runs (method=none; method=retrain)"
    ]


def test_a_glob_that_finds_nothing_is_reported(sweep, capsys):
    assert sweep("seed=glob(*)") == (1, [])
    assert capsys.readouterr().err.startswith("error: seed=glob(*) has no values: glob(…) selects")
    assert sweep("method=glob(npo_*)") == (0, [("npo_gd", 0), ("npo_kl", 0)])


def test_runs_without_an_option_are_named(sweep, capsys):
    assert sweep("method=meow,grad_ascent,kl", "method.select.k=2", "seed=0,1") == (1, [])
    assert capsys.readouterr().err == (
        "error: method.select.k is not an option; it belongs to method=altpo or meow or meow_kl or 3 others (all "
        "options: python run.py --cfg job); this affects 4 of 6 runs: method=grad_ascent seed=0; method=grad_ascent "
        "seed=1; method=kl seed=0 and 1 more: run these separately, without it\n"
    )
    assert sweep("method=grad_ascent,kl", "method.select.k=2") == (1, [])
    assert capsys.readouterr().err.startswith("error: method.select.k is not an option; it belongs to")
    assert sweep("method=none,meow", "seed=0,x") == (1, [])
    assert capsys.readouterr().err == (
        "error: seed=x is invalid: expected an integer; this affects 2 of 4 runs: method=none seed=x; "
        "method=meow seed=x\n"
    )


def test_the_command_of_a_run_is_what_people_type():
    words = ["dataset.forget='Müller [1].jsonl'", "model.target=plain"]
    assert rerun_command(words) == "meow-lightning 'dataset.forget=Müller [1].jsonl' model.target=plain"
