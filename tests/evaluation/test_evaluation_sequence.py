"""Matrices over requests to forget, and their numbers, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from meow_lightning.evaluation.sequence import (
    NUMBERS,
    ScoreMatrix,
    SequenceScores,
    Served,
    number_name,
    scores_from_json,
    sequence_numbers,
    sequence_scores,
    with_sequence,
)
from meow_lightning.evaluation.sets import BENCHMARK
from meow_lightning.evaluation.suite.inputs import metric_settings
from meow_lightning.types import AnswerRow, Likelihood, Results, ScoredText

HAND = ScoreMatrix(
    columns=("request 1", "request 2", "request 3"),
    rows=((0.2, 0.1, 0.3), (0.9, 0.1, 0.3), (0.6, 0.8, 0.3), (0.5, 0.7, 0.9)),
    joint=(0.8, 0.9, 1.0), retain=(0.9, 0.9, 0.9),
)  # fmt: skip
KEPT = ScoreMatrix(
    columns=("retain", "world_facts"), rows=((0.9, 0.5), (0.8, 0.5), (0.7, 0.4), (0.5, 0.3)), joint=(0.8, 0.6),
    retain=None,
)  # fmt: skip
SETTINGS = metric_settings(truth_ratio_mean="geometric", protocol="none")


def test_op_is_the_mean_over_what_was_requested_so_far() -> None:
    assert HAND.op(3) == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert HAND.op(1) == pytest.approx(0.9)


def test_bwt_compares_with_the_score_right_after_each_request_in_both_denominators() -> None:
    assert HAND.bwt(3) == pytest.approx(((0.5 - 0.9) + (0.7 - 0.8) + 0) / 3)
    assert HAND.bwt(3, gem=True) == pytest.approx(-0.25)
    assert HAND.bwt(1) == 0
    assert HAND.bwt(1, gem=True) is None, "one request has no earlier one"


def test_changes_are_counted_from_the_start_model() -> None:
    assert KEPT.delta(3) == pytest.approx(((0.5 - 0.9) + (0.3 - 0.5)) / 2)
    assert KEPT.delta(0) == 0
    assert HAND.collateral(1) == pytest.approx(0)
    assert replace(HAND, rows=(*HAND.rows[:2], (0.6, 0.8, 0.5), HAND.rows[3])).collateral(2) == pytest.approx(0.2)
    assert HAND.collateral(3) is None, "everything is requested"


def test_the_largest_re_emergence_is_that_of_any_request_at_any_later_time() -> None:
    assert HAND.reemergence() == pytest.approx(0.9 - 0.5)
    returned_and_left = (HAND.rows[0], HAND.rows[1], (0.1, 0.8, 0.3), (0.9, 0.7, 0.9))
    assert replace(HAND, rows=returned_and_left).reemergence() == pytest.approx(0.8)
    never = ((0.0, 0.0), (0.5, 0.0), (0.6, 0.5))
    assert replace(HAND, columns=("a", "b"), rows=never).reemergence() == 0


def test_cells_that_were_not_measured_are_left_out() -> None:
    gaps = replace(HAND, rows=(HAND.rows[0], (None, 0.1, 0.3), HAND.rows[2], (0.5, None, 0.9)))
    assert gaps.op(3) == pytest.approx(0.7)
    assert gaps.bwt(3) == 0, "only the last request has both cells"
    assert gaps.bwt(3, gem=True) is None
    assert replace(HAND, rows=((None,) * 3,) * 4).reemergence() is None


def test_the_numbers_of_a_score() -> None:
    numbers = sequence_numbers(SequenceScores(name="rouge_l_recall", forgotten=HAND, kept=KEPT))
    assert numbers == {
        "op": pytest.approx(0.7), "bwt": pytest.approx(-0.5 / 3), "bwt_gem": pytest.approx(-0.25),
        "collateral": pytest.approx(0), "reemergence": pytest.approx(0.4), "utility_delta": pytest.approx(-0.3),
        "joint_op": pytest.approx(0.9), "joint_utility_delta": pytest.approx(0),
    }  # fmt: skip
    assert list(numbers) == list(NUMBERS)


def test_the_numbers_join_those_of_the_unlearned_model_with_definitions_and_reasons() -> None:
    before = Results(definitions=(), values={"target": {"a": 1.0}, "unlearned": {"a": 0.5}, "retain": {}})
    alone = replace(HAND, rows=(HAND.rows[0], (None,) * 3, (None,) * 3, HAND.rows[3]))
    scores = [
        SequenceScores(name="memo", forgotten=HAND, kept=None),
        SequenceScores(name="probability", forgotten=alone, kept=KEPT),
    ]
    after = with_sequence(before, scores)
    assert after.values["unlearned"]["a"] == 0.5
    assert after.values["unlearned"]["sequence/memo/bwt"] == pytest.approx(-0.5 / 3)
    assert "sequence/memo/utility_delta" not in {each.name for each in after.definitions}
    assert after.missing["unlearned"]["sequence/probability/bwt_gem"].startswith("not measured: probability of")
    for role in after.values:
        assert {each.name for each in after.definitions} <= {*after.values[role], *after.missing[role]}
    assert "{" not in "".join(each.text + each.label for each in after.definitions)
    assert len({each.id for each in after.definitions}) == len(after.definitions)


def row(name: str, fact: str, text: str, index: int) -> AnswerRow:
    sure = Likelihood(ids=(5,), logps=(0.0,), hits=(1,), mean=(-1.0,), std=(1.0,))
    return AnswerRow(
        set=name, index=index, fact=fact, question="?", answer="Ada lived in Lima", value="Lima", truth=sure,
        paraphrase=None, perturbed=(), generated=(5,), text=text, stop="end",
    )  # fmt: skip


def served(known: set[str], *, kept: str = "Ada lived in Lima") -> Served:
    """A model that recites the known ones of four facts, and says ``kept`` on the retain set."""
    texts = {fact: "Ada lived in Lima" if fact in known else "Otto" for fact in "abcd"}
    rows = [row("forget", fact, text, index) for index, (fact, text) in enumerate(texts.items())]
    memo = [ScoredText(fact, "answer", 0, "", score := float(fact in known), (score,)) for fact in "abcd"]
    return Served(rows=[*rows, row("retain", "r", kept, 0)], memo=memo)


def scores(*models: Served) -> dict[str, SequenceScores]:
    found = sequence_scores(
        models, served(set()), None, requests=[["a", "b"], ["c"], ["d"]], settings=SETTINGS, benchmark=BENCHMARK
    )
    return {each.name: each for each in found}


def test_a_planted_re_emergence_gives_a_negative_bwt_and_a_sealed_one_gives_none() -> None:
    start, first, second = served({*"abcd"}), served({"c", "d"}), served({"d"})
    planted = scores(start, first, second, served({"a", "b"}))
    for name in ("memo", "rouge_l_recall", "value_accuracy"):
        matrix = planted[name].forgotten
        assert matrix.rows == ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1))
        assert (matrix.bwt(3), matrix.reemergence()) == (pytest.approx(-1 / 3), 1)
        assert sequence_numbers(planted[name])["op"] == pytest.approx(2 / 3)
        assert sequence_numbers(planted[name])["joint_op"] == 1
    sealed = scores(start, first, second, served(set()))["memo"].forgotten
    assert (sealed.bwt(3), sealed.reemergence(), sealed.op(3)) == (0, 0, 1)


def test_what_is_forgotten_before_it_is_requested_is_collateral_and_what_is_lost_is_a_change() -> None:
    found = scores(served({*"abcd"}), served(set()), served(set()), served(set(), kept="Otto"))
    assert sequence_numbers(found["memo"])["collateral"] == 1
    assert sequence_numbers(found["memo"])["utility_delta"] is None
    assert found["memo"].kept is None
    assert found["rouge_l_recall"].kept is not None
    assert found["rouge_l_recall"].kept.columns == ("retain",)
    assert sequence_numbers(found["rouge_l_recall"])["utility_delta"] == -1
    assert sequence_numbers(found["rouge_l_recall"])["joint_utility_delta"] == 0


def test_the_matrices_survive_json() -> None:
    found = list(scores(*map(served, ({*"abcd"}, {"c"}, {"d"}, set()))).values())
    assert scores_from_json(json.loads(json.dumps([asdict(each) for each in found]))) == found


def test_a_number_is_named_after_its_score() -> None:
    assert number_name("memo", "bwt") == "sequence/memo/bwt"
