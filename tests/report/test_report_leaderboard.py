from __future__ import annotations

import csv
import io
from typing import Any

from helpers.html import compact

from meow_lightning.report.leaderboard import Entry, as_csv, grouped, markdown, page, rows
from meow_lightning.types import Definition, Results

UTILITY = "model_utility"
DEFINITIONS = (Definition(UTILITY, "u.1", "share", "higher", "It.", "utility", 1, main=True),)


def entry(
    name: str, utility: float, *, seed: int = 0, split: str = "forget10", version: str = "7", key: str = "",
    reference: bool = False, page: str = "", **options: Any,
) -> Entry:  # fmt: skip
    return Entry(
        key=key or f"{name}{seed}{options}",
        options={
            "dataset": {"name": "fictional", "split": split, "seed": seed}, "model": {"name": "tiny", "seed": seed},
            "evaluation": {"protocol": "none", "confidence_level": 0.95}, "method": {"name": name},
            "optim": {"lr": 1e-3}, "seed": seed, **options,
        },
        evaluated={"evaluation version": version, "questions to forget": "64"},
        results=Results(definitions=DEFINITIONS, values={"unlearned": {UTILITY: utility}}),
        intervals={UTILITY: [utility - 0.125, utility + 0.125]}, reference=reference, page=page,
    )  # fmt: skip


def test_only_what_was_measured_alike_is_in_one_group() -> None:
    entries = [
        entry("a", 0.5), entry("a", 0.5, seed=1), entry("b", 0.5, split="forget05"), entry("b", 0.5, version="12"),
        entry("b", 0.5, evaluation={"protocol": "tofu", "confidence_level": 0.95}),
    ]  # fmt: skip
    found = [(group.title, [*group.details], [*group.entries]) for group in grouped(entries)]
    assert found == [
        ("fictional, forget05, tiny", [], ["method=b seed=0"]),
        ("fictional, forget10, tiny", ["evaluation.protocol: none", "evaluation version: 12"], ["method=b seed=0"]),
        ("fictional, forget10, tiny", ["evaluation.protocol: none", "evaluation version: 7"],
         ["method=a seed=0", "method=a seed=1"]),
        ("fictional, forget10, tiny", ["evaluation.protocol: tofu", "evaluation version: 7"], ["method=b seed=0"]),
    ]  # fmt: skip


def test_rows_are_named_by_what_differs_within_a_method_and_references_come_first() -> None:
    entries = [
        entry("b", 0.5, optim={"lr": 1e-4}), entry("b", 0.5), entry("a", 0.5, method={"name": "a", "beta": 1}),
        entry("none", 0.5, reference=True), entry("c", 0.5, key="123456789"), entry("c", 0.5, key="abcdefghi"),
    ]  # fmt: skip
    (group,) = grouped(entries)
    assert [*group.entries] == [
        "method=none seed=0", "method=a seed=0", "method=b optim.lr=0.0001 seed=0", "method=b optim.lr=0.001 seed=0",
        "method=c seed=0", "method=c run=abcdef seed=0",
    ]  # fmt: skip


def test_means_over_seeds_are_marked_and_linked() -> None:
    entries = [
        entry("a", 0.25, page="../a-0/report.html"), entry("a", 0.75, seed=1, page="../a-1/report.html"),
        entry("b", 0.625), entry("none", 0.875, reference=True),
    ]  # fmt: skip
    (group,) = grouped(entries)
    none, first, second = rows(group, {"method=b": {UTILITY: (0.5, 0.75)}})
    assert (none.name, none.reference, none.cells[0].mark) == ("method=none", True, "")
    assert (first.name, first.cells[0].text, first.cells[0].mark) == ("method=a", "0.500", "second")
    assert first.pages == [("seed 0", "../a-0/report.html"), ("seed 1", "../a-1/report.html")]
    assert (second.cells[0].text, second.cells[0].mark, [*second.cells[0].below]) == (
        "0.625",
        "best",
        ["0.500 to 0.750"],
    )


def test_the_files_say_the_same() -> None:
    entries = [entry("a<b>", 0.5, page="../a/report.html"), entry("b", 0.625), entry("b", 0.5, version="6")]
    shown = [(group, {"method=b": {UTILITY: (0.5, 0.75)}}) for group in grouped(entries)]
    html = compact(page(shown, ["3 runs."]))
    assert "<p>3 runs.</p>" in html
    assert html.count("<h2>fictional, forget10, tiny</h2>") == 2
    assert '<a href="../a/report.html">seed 0</a>' in html
    assert "a&lt;b&gt;" in html
    assert "a<b>" not in html
    text = markdown(shown, ["3 runs."])
    assert "| method=a<b> | <u>0.500</u> | [seed 0](../a/report.html) |\n" in text
    assert "| method=b | **0.625** [0.500, 0.750] | — |\n" in text
    found = list(csv.DictReader(io.StringIO(as_csv(shown))))
    assert [(row["group"], row["run"], row["value"], row["low"]) for row in found] == [
        ("fictional, forget10, tiny; evaluation version: 7", "method=a<b>", "0.5", "0.375"),
        ("fictional, forget10, tiny; evaluation version: 7", "method=b", "0.625", "0.5"),
        ("fictional, forget10, tiny; evaluation version: 6", "method=b", "0.5", "0.375"),
    ]
