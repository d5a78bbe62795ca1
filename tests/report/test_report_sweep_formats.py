from __future__ import annotations

import csv as csv_format
import io
import re
from functools import partial

from meow_lightning.report import sweep_formats
from meow_lightning.report.sweep_formats import ranked_column
from meow_lightning.types import Definition, Results

csv = partial(sweep_formats.csv, unfinished={})
latex = partial(sweep_formats.latex, unfinished={})
DEFINITIONS = (
    Definition("model_utility", "u.1", "share", "higher", "Utility.", "utility & more", 1, main=True),
    Definition("forget/leakage", "l.1", "share", "lower", "Leakage.", "leakage", 2, main=True),
    Definition("memo/answers", "m.1", "share", "none", "MEMO.", "MEMO", 3, main=True),
)


def run(*, known: float = 1.0, **values: float) -> Results:
    named = {"model_utility": values.get("utility"), "forget/leakage": values.get("leakage"), "memo/answers": 0.5}
    return Results(
        definitions=DEFINITIONS,
        values={
            "unlearned": {name: value for name, value in named.items() if value is not None},
            "target": {"facts_known": known},
        },
    )


COLUMNS = ("model_utility", "forget/leakage", "memo/answers", "forget_quality")


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a LaTeX table by row name."""
    lines = [line.removesuffix(r" \\").split(" & ") for line in text.splitlines() if line.endswith(r"\\")]
    return {first: rest for first, *rest in lines}


def test_the_best_is_bold_and_the_second_underlined_by_direction() -> None:
    runs = [
        ("method=a_b", run(utility=0.5, leakage=0.25)), ("method=c", run(utility=0.75, leakage=-0.125)),
        ("method=d", run(utility=0.25)), ("method=none", run(utility=0.9, leakage=0.0)),
        ("method=e", run(utility=0.95, leakage=0.0, known=0.1)),
    ]  # fmt: skip
    text = latex(runs, COLUMNS, {"method=c": {"model_utility": [0.5, 1.0]}}, references={"method=none"})
    table = rows(text)
    assert table["run"] == [r"utility \& more $\uparrow$", r"leakage $\downarrow$", "MEMO"]
    assert table[r"method=a\_b"] == [r"\underline{0.500}", r"\underline{0.250}", "0.500"]
    assert table["method=c"] == [r"\textbf{0.750} {\scriptsize [0.500, 1.000]}", r"\textbf{$-$0.125}", "0.500"]
    assert table["method=d"] == ["0.250", "—", "0.500"]
    assert table["method=none"] == ["0.900", "0.000", "0.500"], "the target model is no method"
    assert table["method=e"] == ["0.950", "0.000", "0.500"], "it never knew the facts"
    assert text.splitlines()[1] == r"\begin{tabular}{lrrr}"


def test_seeds_are_averaged_and_equal_numbers_share_a_mark() -> None:
    runs = [
        ("method=a seed=1", run(utility=0.5)), ("method=a seed=2", run(utility=0.7)),
        ("method=b seed=1", run(utility=0.6001)), ("method=c seed=1", run(utility=0.1)),
    ]  # fmt: skip
    table = rows(latex(runs, ("model_utility",), {}, references=()))
    assert table["method=a"] == table["method=b"] == [r"\textbf{0.600}"]
    assert table["method=c"] == [r"\underline{0.100}"]


def test_every_number_is_in_the_csv_in_full_precision() -> None:
    results = run(utility=1 / 3)
    attacked = Results(
        definitions=DEFINITIONS, values={**results.values, "unlearned@relearn": {"model_utility": 0.25}},
        conditions={"relearn": "after relearning"},
    )  # fmt: skip
    text = csv([("method=a seed=2", attacked)], {"method=a seed=2": {"model_utility": [0.25, 0.5]}})
    found = list(csv_format.DictReader(io.StringIO(text)))
    assert found[0] == {
        "run": "method=a", "seed": "2", "condition": "", "metric": "model_utility", "direction": "higher",
        "unit": "share", "value": repr(1 / 3), "low": "0.25", "high": "0.5", "missing": "",
    }  # fmt: skip
    assert [(row["condition"], row["metric"], row["low"]) for row in found[1:]] == [
        ("", "memo/answers", ""), ("relearn", "model_utility", "")
    ]  # fmt: skip


def test_a_reference_is_never_marked_even_where_its_number_equals_the_best() -> None:
    runs = [("method=retrain", run(utility=0.75)), ("method=a", run(utility=0.75)), ("method=b", run(utility=0.5))]
    table = rows(latex(runs, ("model_utility",), {}, references={"method=retrain"}))
    assert table["method=retrain"] == ["0.750"]
    column = ranked_column(runs, "model_utility", {"method=retrain"})
    assert (column.best, column.second) == (["method=a"], ["method=b"])


def test_what_is_missing_is_in_the_files_with_its_reason() -> None:
    absent = Results(
        definitions=DEFINITIONS, values={"unlearned": {"model_utility": 0.5}},
        missing={"unlearned": {"forget/leakage": "not measured: no values"}, "retain": {"forget/leakage": "no model"}},
    )  # fmt: skip
    unfinished = {"method=b seed=3": "no disk"}
    found = list(csv_format.DictReader(io.StringIO(csv([("method=a seed=3", absent)], {}, unfinished=unfinished))))
    assert [(row["run"], row["metric"], row["value"], row["missing"]) for row in found] == [
        ("method=a", "model_utility", "0.5", ""), ("method=a", "forget/leakage", "", "not measured: no values"),
        ("method=b", "", "", "no disk"),
    ]  # fmt: skip
    table = rows(latex([("method=a seed=3", absent)], ("model_utility",), {}, references=(), unfinished=unfinished))
    assert table["method=b (0 of 1 seeds)"] == ["—"]


def test_latex_is_balanced_and_escaped() -> None:
    name = r"model.prompt.template='50% {question} #1 & $x^2$ ~\n_'"
    runs = [(name, run(utility=-0.5, leakage=0.25)), ("method=c", run(utility=0.75, leakage=-0.125))]
    text = latex(runs, COLUMNS, {name: {"model_utility": [-1.0, 1.0]}}, references=())
    opened = re.findall(r"\\begin{(\w+)}", text)
    assert opened == re.findall(r"\\end{(\w+)}", text) == ["tabular"]
    columns = re.search(r"\\begin{tabular}{(\w+)}", text)
    assert columns is not None
    bodies = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [len(re.split(r"(?<!\\)&", line)) for line in bodies] == [len(columns[1])] * 3
    plain = re.sub(r"\\[\\&%$#_{}]", "", text)  # without what is escaped
    assert plain.count("{") == plain.count("}")
    assert plain.count("$") % 2 == 0
    assert not set("#_^~") & set(plain)
    assert plain.count("%") == 1, "the comment in the first line"
