from __future__ import annotations

import math

import pytest

from meow_lightning.evaluation.checkpoint_selection import (
    Epoch,
    held_out,
    held_out_rows,
    is_better,
    numbered,
    remaining_rows,
    summarize_epoch,
)
from meow_lightning.types import Results


def at(step: int = 1, utility: float = 0.5, log10_p: float = -1.0, excess_recall: float = 0.0) -> Epoch:
    return Epoch(step=step, utility=utility, log10_p=log10_p, excess_recall=excess_recall)


@pytest.mark.parametrize(
    ("count", "share", "number"), [(40, 0.25, 10), (10, 0.25, 2), (3, 0.01, 1), (3, 0.99, 2), (2, 0.5, 1), (1, 0.5, 0)]
)
def test_a_share_is_set_aside_and_something_stays(count: int, share: float, number: int) -> None:
    chosen = held_out("forget", count, share)
    assert len(chosen) == number
    assert chosen <= set(range(count))
    assert chosen == held_out("forget", count, share)


def test_nothing_is_set_aside_without_a_share() -> None:
    assert held_out("forget", 40, 0.0) == frozenset()
    assert held_out_rows("forget", ["a", "b"], 0.0) == ["a", "b"]


def test_sets_are_drawn_from_by_themselves() -> None:
    assert held_out("forget", 40, 0.5) != held_out("retain", 40, 0.5)


def test_part_and_rest_hold_every_row_once(make_row) -> None:
    sets = {name: [make_row(name, index) for index in range(9)] for name in ("forget", "retain")}
    left = remaining_rows(sets, 0.4)
    for name, rows in sets.items():
        mine = [row for row in left if row.set == name]
        assert [row.index for row in mine] == list(range(len(mine)))
        asked = [row.question for row in mine]
        watched = [row.question for row in held_out_rows(name, rows, 0.4)]
        assert sorted(asked + watched) == sorted(row.question for row in rows)
        assert len(watched) == 4


def test_what_chose_the_epoch_does_not_count_under_an_attack_that_leaves_questions_out(make_row) -> None:
    complete = {"forget": [make_row("forget", index) for index in range(9)]}
    chose = {row.fact for row in held_out_rows("forget", complete["forget"], 0.4)}
    asked = numbered([row for row in complete["forget"] if row.index % 3])
    left = remaining_rows({"forget": asked}, 0.4, complete=complete)
    assert [row.index for row in left] == list(range(len(left)))
    assert {row.fact for row in left} == {row.fact for row in asked} - chose
    assert remaining_rows(complete, 0.4, complete=complete) == remaining_rows(complete, 0.4)


def test_forgotten_means_neither_generated_nor_distinguishable() -> None:
    assert at(log10_p=math.log10(0.05), excess_recall=0.1).forgotten
    assert not at(log10_p=math.log10(0.049), excess_recall=0.1).forgotten
    assert not at(log10_p=0.0, excess_recall=0.11).forgotten  # a test on few questions, a model that says all


@pytest.mark.parametrize(
    ("new", "best", "wins"),
    [
        (at(), None, True),
        (at(utility=0.6), at(utility=0.5), True),  # both forgotten: utility
        (at(utility=0.5), at(utility=0.5), False),  # of equals the earlier
        (at(utility=0.5 + 1e-7), at(utility=0.5), False),  # rounding does not choose
        (at(utility=0.1), at(utility=0.9, excess_recall=0.9), True),  # forgotten goes before
        (at(utility=0.9, log10_p=-9), at(utility=0.1), False),
        (
            at(log10_p=-8, excess_recall=0.0),
            at(log10_p=0.0, excess_recall=0.5),
            True,
        ),  # says no more, before not told apart
        (at(log10_p=-3), at(log10_p=-5), True),  # none forgot, none says more: forget quality
        (at(excess_recall=0.4, log10_p=-9), at(excess_recall=0.6, log10_p=-1), True),  # both say more: who says less
        (at(excess_recall=0.6), at(excess_recall=0.4), False),
    ],
)
def test_which_epoch_is_better(new: Epoch, best: Epoch | None, wins: bool) -> None:
    assert is_better(new, best) is wins


def test_an_epoch_is_read_off_its_numbers() -> None:
    mine = {
        "model_utility": 0.6,
        "forget_quality_log10": -2.0,
        "forget/value_accuracy": 0.75,
        "forget/rouge_l_recall": 1,
    }
    other = {"forget/value_accuracy": 0.25, "forget/rouge_l_recall": 0.5}
    results = Results(definitions=(), values={"unlearned": dict(mine), "retain": dict(other)})
    assert summarize_epoch(results, step=7) == at(7, 0.6, -2.0, 0.5)
    del results.values["retain"]["forget/value_accuracy"]  # facts without marked values: ROUGE-L
    assert summarize_epoch(results, step=7) == at(7, 0.6, -2.0, 0.5)
    results.values["unlearned"]["forget/rouge_l_recall"] = 0.875
    assert summarize_epoch(results, step=7) == at(7, 0.6, -2.0, 0.375)
    for name in ("model_utility", "forget_quality_log10", "forget/rouge_l_recall"):
        lacking = {key: value for key, value in mine.items() if key != name}
        found = Results(definitions=(), values={"unlearned": lacking, "retain": {"forget/rouge_l_recall": 0.5}})
        assert summarize_epoch(found, step=7) is None
