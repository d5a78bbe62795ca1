from __future__ import annotations

import pytest
from helpers.sweeps import swept

from meow_lightning.report.memorization_comparison import Picks, measures, several, shared
from meow_lightning.report.sweep_tables import Swept

EIGHT = {"f": 8, "g": 4}


def run(memo: str, seed: int, told: float) -> Swept:
    values = {
        "target": {"memo/answers": told, "memo/candidates": 0.25}, "unlearned": {"memo/answers": told / 2}, "retain": {}
    }  # fmt: skip
    return swept(f"seed={seed}", f"memo={memo}", "method=meow", values=values)


def test_shared_picks_are_counted_against_a_lot() -> None:
    one = Picks(taken={"f": [0, 1, 2], "g": [3]}, available=EIGHT)
    other = Picks(taken={"f": [2, 1, 7], "g": [0], "h": [1]}, available=EIGHT)
    # of f two are shared, of g none; by chance 3 * 3 / 8 and 1 * 1 / 4
    assert shared(one, other) == (2, 1.125 + 0.25, 4)


def test_every_measure_has_its_line_and_is_held_against_the_first() -> None:
    runs = [run("clean", 3, 0.4), run("ma", 3, 0.8), run("clean", 4, 0.6), run("ma", 4, 0.9)]
    taken = {(3, "clean"): [0, 1], (3, "ma"): [1, 2], (4, "clean"): [0, 1], (4, "ma"): [4, 5]}
    picks = {
        each.name: Picks(taken={"f": taken[each.config.seed, each.words["memo"]]}, available=EIGHT) for each in runs
    }
    found = measures(runs, picks)
    assert found is not None
    title, (head, *rows) = found
    assert title == "memorization measures (means over seeds)"
    assert head == [
        "run", "true answers, target model", "true answers, unlearned model", "true answers, retain model",
        "inverted answers, target model", "picks shared with memo=clean",
    ]  # fmt: skip
    # one of two shared on seed 3 and none on seed 4; by chance 2 * 2 / 8
    assert rows == [
        ["memo=clean method=meow", "0.500", "0.250", "—", "0.250", "2.0 of 2.0 (0.5 by chance)"],
        ["memo=ma method=meow", "0.850", "0.425", "—", "0.250", "0.5 of 2.0 (0.5 by chance)"],
    ]


def test_empty_selections_do_not_overlap() -> None:
    found = measures([run("clean", 3, 0.4), run("el", 3, 0.8)], {})
    assert found is not None
    assert [row[-1] for row in found[1][1:]] == ["—", "—"]


@pytest.mark.parametrize(
    ("words", "many"),
    [
        (("memo=clean", "memo=clean"), False),
        (("memo.mode=suffix", "memo.mode=prefix"), True),
        (("memo.verify=0", "memo.verify=9"), False),
        (("seed=1", "seed=2"), False),
    ],
)
def test_one_measure_needs_no_table(words: tuple[str, str], many: bool) -> None:
    runs = [swept(word) for word in words]
    assert several(runs) is many
    assert (measures(runs, {}) is not None) is many
