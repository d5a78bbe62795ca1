from __future__ import annotations

from functools import partial

from meow_lightning.report import sweeps
from meow_lightning.report.sweeps import COLUMNS
from meow_lightning.types import Definition, Results

tables = partial(sweeps.tables, columns=COLUMNS, ends=True)
DEFINITIONS = (Definition(name="model_utility", id="u.1", unit="share", direction="higher", text="Utility."),)


def cell(**values: float) -> Results:
    return Results(definitions=DEFINITIONS, values={"unlearned": values})


def test_every_cell_has_a_row_with_the_unlearned_numbers() -> None:
    ((title, (head, *rows)),) = tables([("one", cell(model_utility=0.5)), ("two", Results(definitions=(), values={}))])
    assert title == "2 cells, the unlearned model's numbers"
    assert head[0] == "cell"
    assert head[1 + COLUMNS.index("model_utility")] == "model utility ↑"
    assert rows[0][2] == "0.500"
    assert rows[1] == ["two", *["—"] * len(COLUMNS)]


def test_seeds_become_means_with_lowest_and_highest() -> None:
    cells = [
        ("seed=3 method=a", cell(model_utility=0.5)), ("seed=4 method=a", cell(model_utility=0.7)),
        ("seed=3 method=b", cell(model_utility=0.25)), ("seed=4 method=b", cell()),
    ]  # fmt: skip
    _, (title, (_, *rows)) = tables(cells)
    assert title == "means over up to 2 seeds, lowest and highest below"
    assert [row[0] for row in rows] == ["method=a", "", "method=b", ""]
    assert [row[2] for row in rows] == ["0.600", "0.500 to 0.700", "0.250", ""]


def test_a_sweep_over_seeds_alone_has_one_mean() -> None:
    _, (_, (_, *rows)) = tables([("seed=1", cell(model_utility=0.5)), ("seed=2", cell(model_utility=0.5))])
    assert [row[0] for row in rows] == ["all", ""]


def test_a_terminal_gets_fewer_numbers_and_no_ends() -> None:
    cells = [("seed=3 method=a", cell(model_utility=0.5)), ("seed=4 method=a", cell(model_utility=0.7))]
    _, (title, rows) = sweeps.tables(cells, columns=("model_utility",), ends=False)
    assert title == "means over up to 2 seeds"
    assert rows == [["cell", "model utility ↑"], ["method=a", "0.600"]]
