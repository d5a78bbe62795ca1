from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.metrics.hallucination import SHARES
from meow_lightning.evaluation.suite.bootstrap import (
    Bootstrap,
    distance_samples,
    intervals,
    mean_samples,
    over_seeds,
    percentiles,
    unanimous_interval,
)
from meow_lightning.evaluation.suite.suite import evaluate
from meow_lightning.types import AnswerRow, ScoredText

MakeRow = Callable[..., AnswerRow]
MakeCell = Callable[..., dict[str, list[AnswerRow]]]

SETS = ("forget", "retain", "real_authors", "world_facts")
WORDS = ["red", "green", "blue", "black", "white", "grey", "pink", "brown"]


@pytest.fixture
def cell(make_row: MakeRow) -> MakeCell:
    """A target and a retain model over four sets with random answers; the retain model leans to wrong answers."""

    def build(count: int, *, wrong: int = 3, tokens: int = 3) -> dict[str, list[AnswerRow]]:
        rows: dict[str, list[AnswerRow]] = {"target": [], "retain": [], "unlearned": []}
        for role, shift in zip(rows, (0.0, 0.5, 0.2), strict=True):
            source = random.Random(f"{role}")

            def logps(lean: float, source: random.Random = source) -> list[float]:
                return [-source.expovariate(1.0) - lean for _ in range(tokens)]

            for name in SETS:
                for index in range(count):
                    answer = " ".join(random.Random(f"{name}{index}").choices(WORDS, k=8))
                    text = " ".join(word for word in answer.split() if source.random() < 0.7)
                    rows[role].append(
                        make_row(
                            name, index, truth=logps(shift), paraphrase=logps(shift), text=text, answer=answer,
                            perturbed=[logps(1.0) for _ in range(wrong)], value=answer.split()[0],
                        )
                    )  # fmt: skip
        return rows

    return build


def held(count: int, low: float) -> dict[str, list[ScoredText]]:
    source = random.Random(1)
    texts = [
        ScoredText(fact=str(i), kind="answer", position=0, answer="", score=source.uniform(low, 1.0), windows=())
        for i in range(count)
    ]
    return {"answers": texts}


def test_counts_take_as_many_rows_as_there_are() -> None:
    counts = Bootstrap(bootstrap_samples=50, seed=0).counts("forget", 7)
    assert counts.shape == (50, 7)
    assert counts.sum(axis=1).tolist() == [7.0] * 50
    again = Bootstrap(bootstrap_samples=50, seed=0)
    # neither another set nor another order moves a set's draws
    again.counts("retain", 7)
    assert np.array_equal(again.counts("forget", 7), counts)
    assert not np.array_equal(again.counts("retain", 7), counts)
    assert not np.array_equal(Bootstrap(bootstrap_samples=50, seed=1).counts("forget", 7), counts)


def test_mean_of_draws_by_hand() -> None:
    counts = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    # (0 + 0 + 3)/3 and 3 x 9 / 3
    assert mean_samples([0.0, 3.0, 9.0], counts).tolist() == [1.0, 9.0]
    # the last row does not count: (0 + 0 + 3)/3, and a draw of nothing else
    first, second = mean_samples([0.0, 3.0, None], counts).tolist()
    assert first == 1.0
    assert math.isnan(second)
    assert percentiles(mean_samples([0.0, 3.0, None], counts), confidence_level=0.9) == (1.0, 1.0)


def test_percentiles_by_hand() -> None:
    # 0 .. 100: half of the draws lie between 25 and 75
    assert percentiles(np.arange(101.0), confidence_level=0.5) == (25.0, 75.0)
    low, high = percentiles(np.arange(101.0), confidence_level=0.9)
    assert (low, high) == (pytest.approx(5.0), pytest.approx(95.0))


def test_harmonic_mean_of_draws_by_hand() -> None:
    # 2 / (1/.5 + 1/.25) = 1/3; a zero makes it 0
    drawn = Bootstrap(bootstrap_samples=2, seed=0).harmonic_mean([np.array([0.5, 0.0]), np.array([0.25, 0.5])])
    assert drawn.tolist() == [pytest.approx(1 / 3), 0.0]


def test_distance_of_draws_by_hand() -> None:
    left, right = [0.0, 1.0], [2.0, 1.0]
    # both rows: F - G after 0 is 1/2, after 1 (2 - 1)/2: D = 1/2. The first row twice: 0 0 against 2 2, D = 1.
    # The second row twice: 1 1 against 1 1, D = 0. Draws 1/2, 1, 0 have the mean 1/2, so nothing is taken off.
    counts = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    assert distance_samples(left, right, counts).tolist() == [0.5, 1.0, 0.0]
    # draws 1 and 1 have an excess of 1/2
    assert distance_samples(left, right, counts[[1, 1]]).tolist() == [0.5, 0.5]
    assert distance_samples(left, left, counts).tolist() == [0.0, 0.0, 0.0]


def test_every_draws_distance_is_that_of_the_test() -> None:
    source = random.Random(0)
    left, right = ([round(source.gauss(0, 1), 1) for _ in range(30)] for _ in range(2))
    left[0] = math.inf
    counts = Bootstrap(bootstrap_samples=20, seed=0).counts("x", 30)
    drawn = distance_samples(left, right, counts)
    taken = [np.repeat(np.arange(30), row.astype(int)) for row in counts]
    exact = np.array([forget_quality(np.array(left)[t], np.array(right)[t]).distance for t in taken])
    excess = max(0.0, exact.mean() - forget_quality(left, right).distance)
    assert drawn == pytest.approx(np.clip(exact - excess, 0, 1), abs=1e-12)


def test_intervals_hold_the_number_and_shrink_with_more_questions(cell: MakeCell) -> None:
    widths = []
    for count in (25, 400):
        rows, memo = cell(count), {"target": held(count, 0.0), "unlearned": held(count, 0.5)}
        values = evaluate(rows, memo, truth_ratio_mean="geometric").values
        found = intervals(
            rows, memo, truth_ratio_mean="geometric", bootstrap_samples=300, confidence_level=0.95, seed=0
        )
        headline = {f"{name}/{number}" for name in SETS for number in (
            "probability", "rouge_l_recall", "truth_ratio", "value_accuracy"
        )} | {"model_utility", "forget_quality_distance"}  # fmt: skip
        unrelated = {name for each in found.values() for name in each if name.rpartition("/")[2] in SHARES}
        assert set(found["target"]) - {"facts_known"} - unrelated == headline | {"memo/answers"}
        assert set(found["unlearned"]) - unrelated == headline | {"memo/answers"}
        assert {"facts_known", "world_facts/asserts"} <= set(found["target"])
        assert set(found["retain"]) - unrelated == headline
        for role, ends in found.items():
            for name, (low, high) in ends.items():
                assert low <= values[role][name] <= high, (role, name)
        assert found["retain"]["forget_quality_distance"] == (0.0, 0.0)
        widths.append({name: high - low for name, (low, high) in found["target"].items()})
    # sixteen times the questions, about a quarter of the width
    for name, wide in widths[0].items():
        assert 0 < widths[1][name] < wide / 2, name


def test_a_wider_level_holds_a_narrower_one(cell: MakeCell) -> None:
    found = [
        intervals(
            cell(30), {}, truth_ratio_mean="geometric", bootstrap_samples=200, confidence_level=confidence_level, seed=0
        )["target"]
        for confidence_level in (0.5, 0.9)
    ]
    for name, (low, high) in found[0].items():
        assert found[1][name][0] <= low <= high <= found[1][name][1]


def test_the_seed_decides(cell: MakeCell) -> None:
    rows = cell(30)
    again, same, other = (
        intervals(rows, {}, truth_ratio_mean="arithmetic", bootstrap_samples=100, confidence_level=0.9, seed=seed)
        for seed in (3, 3, 4)
    )
    assert again == same
    assert again["target"]["model_utility"] != other["target"]["model_utility"]
    # a set's draws do not depend on the other sets, nor a model's on the other models
    alone = {"target": [row for row in rows["target"] if row.set == "retain"]}
    part = intervals(alone, {}, truth_ratio_mean="arithmetic", bootstrap_samples=100, confidence_level=0.9, seed=3)[
        "target"
    ]
    assert part == {name: ends for name, ends in again["target"].items() if name.startswith("retain/")}


def test_about_as_many_intervals_hold_the_truth_as_they_say() -> None:
    # 40 values of an exponential distribution with mean 1; percentile intervals of a skewed mean are a little short
    held_by = 0
    for trial in range(300):
        source = np.random.default_rng(trial)
        drawn = mean_samples(
            source.exponential(size=40).tolist(), Bootstrap(bootstrap_samples=200, seed=trial).counts("x", 40)
        )
        low, high = percentiles(drawn, confidence_level=0.9)
        held_by += low <= 1.0 <= high
    assert 0.82 < held_by / 300 < 0.94


def test_missing_numbers_have_no_interval(make_row: MakeRow) -> None:
    rows = [make_row("forget", index, truth=[math.nan], text="Rome") for index in range(3)]
    found = intervals(
        {"target": rows}, {}, truth_ratio_mean="geometric", bootstrap_samples=10, confidence_level=0.9, seed=0
    )
    # no value, no wrong answers, no likelihood; ROUGE-L of a wrong word is 0 in every row
    # of which the repeated question contains no more
    recall = (0.0, pytest.approx(1 - 0.05 ** (1 / 3)))
    assert found == {"target": {"forget/rouge_l_recall": recall, "facts_known": (0.0, 0.0)}}
    only_memo = intervals(
        {}, {"target": held(3, 0.5)}, truth_ratio_mean="geometric", bootstrap_samples=10, confidence_level=0.9, seed=0
    )
    assert list(only_memo["target"]) == ["memo/answers"]


@pytest.mark.parametrize(
    ("bootstrap_samples", "confidence_level"), [(0, 0.9), (10, 0.0), (10, 1.0), (10, 95.0), (10, math.nan)]
)
def test_arguments_out_of_range(bootstrap_samples: int, confidence_level: float) -> None:
    with pytest.raises(
        UserError,
        match=r"^bootstrap_samples=\d+, confidence_level=\S+ is invalid: expected an integer of at least 1 and",
    ):
        intervals(
            {},
            {},
            truth_ratio_mean="geometric",
            bootstrap_samples=bootstrap_samples,
            confidence_level=confidence_level,
            seed=0,
        )


def test_roles_and_questions_are_checked(cell: MakeCell, make_row: MakeRow) -> None:
    with pytest.raises(UserError, match=r"^role=base is invalid: expected one of target, unlearned, retain"):
        intervals(
            {}, {"base": held(1, 0.0)}, truth_ratio_mean="geometric", bootstrap_samples=1, confidence_level=0.9, seed=0
        )
    rows = cell(2) | {"retain": [make_row("forget", index, perturbed=[[-1.0]]) for index in range(2)]}
    with pytest.raises(UserError, match="question 0 differs: the target model has fact 'forget-0', the retain model"):
        intervals(rows, {}, truth_ratio_mean="geometric", bootstrap_samples=1, confidence_level=0.9, seed=0)


def test_a_run_of_tofus_size_takes_seconds(cell: MakeCell) -> None:
    rows, memo = cell(400, wrong=5, tokens=30), dict.fromkeys(("target", "retain", "unlearned"), held(400, 0.0))
    intervals(
        cell(1), {}, truth_ratio_mean="geometric", bootstrap_samples=1, confidence_level=0.95, seed=0
    )  # libraries load once
    start = time.process_time()
    intervals(rows, memo, truth_ratio_mean="geometric", bootstrap_samples=1000, confidence_level=0.95, seed=0)
    assert time.process_time() - start < 2


def test_a_draw_over_seeds_takes_seeds_with_replacement_by_hand() -> None:
    # two seeds that always say 0 and 1: the mean of two picks is 0, 1/2, 1 in 1/4, 1/2, 1/4 of the draws
    drawn = over_seeds([np.zeros(40_000), np.ones(40_000)], seed=0)
    shares = [float((drawn == value).mean()) for value in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.01)


def test_a_single_seed_has_its_questions_spread_alone_and_equal_seeds_share_it() -> None:
    source = np.random.default_rng(0)
    one = source.normal(0.5, 0.1, size=20_000)
    assert np.std(over_seeds([one], seed=1)) == pytest.approx(0.1, rel=0.03)
    # four seeds that differ by their questions alone: the mean of four independent draws
    four = over_seeds([source.normal(0.5, 0.1, size=20_000) for _ in range(4)], seed=1)
    assert np.std(four) == pytest.approx(0.1 / 2, rel=0.03)


@given(rows=st.integers(1, 200), level=st.floats(0.5, 0.99))
def test_a_unanimous_share_has_the_interval_of_clopper_and_pearson(rows: int, level: float) -> None:
    for successes, value in ((0, 0.0), (rows, 1.0)):
        exact = binomtest(successes, rows).proportion_ci(confidence_level=level, method="exact")
        assert unanimous_interval(value, rows, confidence_level=level) == pytest.approx((exact.low, exact.high))


def test_no_question_answered_is_compatible_with_a_few(make_row: MakeRow) -> None:
    rows = [make_row("forget", at, text="elsewhere", answer="here") for at in range(38)]
    found = intervals(
        {"target": rows}, {}, truth_ratio_mean="geometric", bootstrap_samples=50, confidence_level=0.95, seed=0
    )["target"]
    assert found["forget/rouge_l_recall"] == pytest.approx((0.0, 1 - 0.025 ** (1 / 38)))
    assert found["forget/rouge_l_recall"][1] == pytest.approx(0.0925, abs=1e-4)


def test_the_interval_over_seeds_holds_both_spreads() -> None:
    source = np.random.default_rng(1)
    centres = [0.2, 0.4, 0.6, 0.8]  # their variance is .05
    drawn = over_seeds([source.normal(centre, 0.1, size=20_000) for centre in centres], seed=2)
    assert np.var(drawn) == pytest.approx((0.05 + 0.1**2) / 4, rel=0.05)
    low, high = percentiles(drawn, confidence_level=0.95)
    assert low < 0.4 < 0.6 < high
