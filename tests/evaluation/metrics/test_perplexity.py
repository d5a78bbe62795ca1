from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from meow_lightning.evaluation.metrics.perplexity import Perplexity, perplexity
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow, SetInfo

MakeRow = Callable[..., AnswerRow]


def test_every_token_weighs_the_same(make_row: MakeRow) -> None:
    rows = [make_row(index=0, truth=[math.log(1 / 2)]), make_row(index=1, truth=[math.log(1 / 4)] * 3)]
    # (log 2 + 3 log 4) / 4 = 7/4 log 2; the mean over texts would be 3/2 log 2
    assert perplexity(rows) == pytest.approx(2 ** (7 / 4))
    assert perplexity([make_row(truth=[0.0, 0.0])]) == 1.0


def test_utility_sets_that_are_scored_alone_have_one(make_row: MakeRow) -> None:
    own = SetInfo("held_out", "utility", "free")
    assert Perplexity().reads([*BENCHMARK, own]) == [own]
    rows = [make_row("forget", truth=[-1.0]), make_row("held_out", truth=[-2.0, 0.0])]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric", benchmark=(*BENCHMARK, own))
    assert results.values["target"]["held_out/perplexity"] == pytest.approx(math.e)
    (defined,) = (each for each in results.definitions if each.metric == "perplexity")
    assert (defined.label, defined.direction) == ("held out perplexity", "lower")


def test_an_impossible_token_is_a_reason_and_no_number(make_row: MakeRow) -> None:
    own = SetInfo("held_out", "utility", "free")
    rows = [make_row("held_out", truth=[-math.inf, -1.0])]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric", benchmark=(own,))
    assert results.missing["target"]["held_out/perplexity"].startswith("its value is inf")
