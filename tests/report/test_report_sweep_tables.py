from __future__ import annotations

from functools import partial

from meow_lightning.report import sweep_tables
from meow_lightning.report.sweep_tables import COLUMNS
from meow_lightning.types import Definition, Results

tables = partial(sweep_tables.tables, columns=COLUMNS, ends=True, nested={}, per_run={}, unfinished={})
DEFINITIONS = (
    Definition(
        name="model_utility", id="u.1", unit="share", direction="higher", text="Utility.", label="utility of it",
        order=1, main=True,
    ),
)  # fmt: skip


def run(**values: float) -> Results:
    return Results(definitions=DEFINITIONS, values={"unlearned": values})


def test_every_run_has_a_row_with_the_unlearned_numbers() -> None:
    ((title, (head, *rows)),) = tables([("one", run(model_utility=0.5)), ("two", Results(definitions=(), values={}))])
    assert title == "2 runs, the unlearned model's numbers"
    assert head[0] == "run"
    assert head[1 + COLUMNS.index("model_utility")] == "utility of it ↑"
    assert rows[0][2] == "0.500"
    assert rows[1] == ["two", *["—"] * len(COLUMNS)]


def test_seeds_become_means_with_lowest_and_highest() -> None:
    runs = [
        ("seed=3 method=a", run(model_utility=0.5)), ("seed=4 method=a", run(model_utility=0.7)),
        ("seed=3 method=b", run(model_utility=0.25)), ("seed=4 method=b", run()),
    ]  # fmt: skip
    _, (title, (_, *rows)) = tables(runs)
    assert title == (
        "means over up to 2 seeds, lowest and highest below, then the interval of the mean over seeds and questions"
    )
    assert [row[0] for row in rows] == ["method=a", "", "method=b", ""]
    assert [row[2] for row in rows] == ["0.600", "0.500 to 0.700", "0.250", ""]


def test_a_sweep_over_seeds_alone_has_one_mean() -> None:
    _, (_, (_, *rows)) = tables([("seed=1", run(model_utility=0.5)), ("seed=2", run(model_utility=0.5))])
    assert [row[0] for row in rows] == ["all", ""]


def test_a_terminal_gets_fewer_numbers_and_no_ends() -> None:
    runs = [("seed=3 method=a", run(model_utility=0.5)), ("seed=4 method=a", run(model_utility=0.7))]
    _, (title, rows) = tables(runs, columns=("model_utility",), ends=False)
    assert title == "means over up to 2 seeds"
    assert rows == [["run", "utility of it ↑"], ["method=a", "0.600"]]


def test_the_interval_over_seeds_and_questions_is_below_the_range() -> None:
    runs = [("seed=3 method=a", run(model_utility=0.5)), ("seed=4 method=a", run(model_utility=0.7))]
    nested = {"method=a": {"model_utility": (0.48, 0.72)}}
    _, (_, (_, *rows)) = tables(runs, columns=("model_utility",), nested=nested)
    assert rows == [["method=a", "0.600"], ["", "0.500 to 0.700"], ["", "[0.480, 0.720]"]]


def test_a_run_whose_target_never_knew_the_facts_is_marked() -> None:
    ignorant = Results(
        definitions=DEFINITIONS, values={"unlearned": {"model_utility": 0.5}, "target": {"facts_known": 0.1}}
    )
    ((_, (_, row)),) = tables([("one", ignorant)], columns=("model_utility",))
    assert row == ["one (meaningless: facts not known)", "0.500"]


def test_the_numbers_after_an_attack_follow_those_without() -> None:
    values = {"unlearned": {"model_utility": 0.5}, "unlearned@relearn": {"model_utility": 0.4}}
    attacked = Results(definitions=DEFINITIONS, values=values, conditions={"relearn": "after relearning"})
    (title, plain), (after, rows) = tables([("one", attacked), ("two", run(model_utility=0.5))])[:2]
    assert title == "2 runs, the unlearned model's numbers"
    assert [row[2] for row in plain[1:]] == ["0.500", "0.500"]
    assert after == "1 run, the unlearned model's numbers, after relearning"
    assert [row[2] for row in rows[1:]] == ["0.400"]


def test_the_interval_over_questions_is_below_each_run() -> None:
    runs = [("one", run(model_utility=0.5)), ("two", run(model_utility=0.7))]
    ((title, (_, *rows)),) = tables(runs, columns=("model_utility",), per_run={"one": {"model_utility": [0.4, 0.6]}})
    assert title == "2 runs, the unlearned model's numbers, interval over questions below"
    assert rows == [["one", "0.500"], ["", "[0.400, 0.600]"], ["two", "0.700"]]


def test_a_run_without_numbers_is_a_row_of_dashes_and_a_mean_says_how_many_seeds_it_has() -> None:
    runs = [("method=a seed=3", run(model_utility=0.5)), ("method=a seed=4", run(model_utility=0.7))]
    unfinished = {"method=a seed=5": "no luck", "method=b seed=3": "no disk"}
    (title, (_, *rows)), (_, (_, *means)) = tables(runs, columns=("model_utility",), ends=False, unfinished=unfinished)
    assert title == "2 of 4 runs, the unlearned model's numbers"
    assert rows[2:] == [["method=a seed=5", "—"], ["method=b seed=3", "—"]]
    assert means == [["method=a (2 of 3 seeds)", "0.600"], ["method=b (0 of 1 seeds)", "—"]]
