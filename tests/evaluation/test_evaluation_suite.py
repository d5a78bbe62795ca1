from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Literal

import pytest

from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.suite import ROLES, evaluate, results_from_json, results_to_json
from meow_lightning.types import AnswerRow, ScoredText, UserError

MakeRow = Callable[..., AnswerRow]
MakeRows = Callable[..., list[AnswerRow]]

SETS = ("forget", "retain", "real_authors", "world_facts")


def scored(fact: str, score: float, kind: Literal["answer", "candidate"] = "answer", position: int = 0) -> ScoredText:
    return ScoredText(fact=fact, kind=kind, position=position, answer="", score=score, windows=(score,))


@pytest.fixture
def model(make_row: MakeRow) -> MakeRows:
    """Two questions in each set; R = 1/2 and 1/4 moved by ``shift`` in the logarithm, value in one answer."""

    def build(shift: float = 0.0, sets: Sequence[str] = SETS, value: str = "Paris") -> list[AnswerRow]:
        rows = []
        for name in sets:
            for index, ratio in enumerate((1 / 2, 1 / 4)):
                wrong = [[math.log(ratio) + math.log(0.5) + shift]] * 3
                text = ("Paris", "Rome")[index]
                rows.append(make_row(name, index, truth=[math.log(0.5)], perturbed=wrong, text=text, value=value))
        return rows

    return build


def test_numbers_of_a_complete_cell_by_hand(model: MakeRows) -> None:
    roles = {"target": model(), "retain": model(), "unlearned": model()}
    values = evaluate(roles, {}, truth_ratio_mean="geometric").values["target"]
    assert values["forget/probability"] == pytest.approx(0.5)
    # options: 0.5 / (0.5 + 3 * 0.25) = 0.4 and 0.5 / (0.5 + 3 * 0.125) = 4/7; mean 17/35
    assert values["world_facts/probability"] == pytest.approx(17 / 35)
    assert values["retain/rouge_l_recall"] == pytest.approx(0.5)
    assert values["retain/value_accuracy"] == pytest.approx(0.5)
    # R is 1/2 and 1/4: on the forget set their mean 3/8, elsewhere the mean 5/8 of 1/2 and 3/4
    assert values["forget/truth_ratio"] == pytest.approx(3 / 8)
    assert values["retain/truth_ratio"] == pytest.approx(5 / 8)
    # nine numbers: probability 1/2, 17/35, 17/35; ROUGE 3 x 1/2; truth ratio 3 x 5/8
    assert values["model_utility"] == pytest.approx(9 / (2 + 2 * 35 / 17 + 3 * 2 + 3 * 8 / 5))


def test_forget_quality_is_against_the_retain_model(model: MakeRows) -> None:
    # retain log R: log 1/2, log 1/4; the target's are lower by 10: D = 1, p = 2 / C(4, 2) = 1/3
    roles = {"target": model(-10.0), "retain": model(), "unlearned": model()}
    values = evaluate(roles, {}, truth_ratio_mean="geometric").values
    assert values["target"]["forget_quality_distance"] == 1.0
    assert values["target"]["forget_quality"] == pytest.approx(1 / 3)
    assert values["target"]["forget_quality_log10"] == pytest.approx(-math.log10(3))
    assert values["target"]["forget_quality_rows"] == 2.0
    for role in ("retain", "unlearned"):
        assert values[role]["forget_quality"] == 1.0
        assert values[role]["forget_quality_log10"] == 0.0
        assert values[role]["forget_quality_distance"] == 0.0


def test_the_mean_reaches_the_numbers_and_the_definitions(make_row: MakeRow) -> None:
    # R is sqrt(0.1 * 0.4) / 0.5 = 0.4 by the geometric mean, 0.25 / 0.5 = 0.5 by the arithmetic one
    rows = [make_row("retain", truth=[math.log(0.5)], perturbed=[[math.log(0.1)], [math.log(0.4)]])]
    ids = set()
    for mean, expected in (("geometric", 0.6), ("arithmetic", 0.5)):
        results = evaluate({"target": rows}, {}, truth_ratio_mean=mean)
        assert results.values["target"]["retain/truth_ratio"] == pytest.approx(expected)
        ids.add(next(one.id for one in results.definitions if one.name == "retain/truth_ratio"))
    assert ids == {"truth_ratio.1.geometric", "truth_ratio.1.arithmetic"}


def test_every_number_of_every_role_is_there_or_missing_with_a_reason(model: MakeRows) -> None:
    results = evaluate({"target": model(), "unlearned": model(sets=("forget",))}, {}, truth_ratio_mean="geometric")
    names = {definition.name for definition in results.definitions}
    assert len(names) == len(results.definitions) == 4 * 4 + 1 + 4 + 2
    for role in ROLES:
        assert not set(results.values[role]) & set(results.missing[role])
        assert set(results.values[role]) | set(results.missing[role]) == names
        assert all(results.missing[role].values())
    assert results.values["retain"] == {}
    missing = results.missing
    assert missing["unlearned"]["forget_quality"] == "not measured: there are no answers of the retain model"
    assert missing["retain"]["model_utility"] == "there are no answers of the retain model"
    assert missing["unlearned"]["retain/probability"] == "the unlearned model did not answer set 'retain'"
    assert "world_facts/truth_ratio" in missing["unlearned"]["model_utility"]


def test_no_wrong_answers(make_row: MakeRow) -> None:
    sets = ("forget", "retain", "world_facts")
    rows = [make_row(name, index) for name in sets for index in range(2)]
    results = evaluate({"target": rows, "retain": rows}, {}, truth_ratio_mean="geometric")
    reason = "2 of 2 questions of set 'retain' have no wrong (perturbed) answers"
    assert results.missing["target"]["retain/truth_ratio"] == reason
    # an answer alone has a probability; among options it needs them
    assert results.values["target"]["retain/probability"] == pytest.approx(math.exp(-1))
    assert "no wrong (perturbed) answers" in results.missing["target"]["world_facts/probability"]
    assert "no wrong" not in results.missing["target"]["model_utility"]
    assert "retain/truth_ratio, real_authors/probability" in results.missing["target"]["model_utility"]
    assert "lack wrong (perturbed) answers" in results.missing["target"]["forget_quality"]
    assert results.missing["target"]["forget/value_accuracy"].startswith("no question of set 'forget' marks the words")


def test_a_diverged_model_is_told_not_averaged(make_row: MakeRow, model: MakeRows) -> None:
    broken = [make_row("forget", i, truth=[math.nan], perturbed=[[-1.0]]) for i in range(2)]
    results = evaluate({"unlearned": broken, "retain": model()}, {}, truth_ratio_mean="geometric")
    missing = results.missing["unlearned"]
    assert missing["forget/probability"].startswith("it came out as nan: some answers have a likelihood")
    assert missing["forget/truth_ratio"].startswith("it came out as nan")
    assert missing["forget_quality"].startswith("not measured: 2 of 2 truth ratios of the unlearned model are not num")
    assert "forget_quality" in results.values["retain"]


def test_different_questions_are_refused(model: MakeRows) -> None:
    rows = {"unlearned": model(), "retain": [row for row in model() if row.set != "forget" or row.index == 0]}
    with pytest.raises(UserError, match="the unlearned model has 2 questions, the retain model 1"):
        evaluate(rows, {}, truth_ratio_mean="geometric")


def test_incomplete_set_names_the_role(make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="the target model's answers: set 'forget' holds index 0 not at all"):
        evaluate({"target": [make_row(index=1)]}, {}, truth_ratio_mean="geometric")


def test_unknown_role_and_mean(model: MakeRows) -> None:
    with pytest.raises(UserError, match="role 'base' was given; allowed are target, retain, unlearned"):
        evaluate({"base": model()}, {}, truth_ratio_mean="geometric")
    with pytest.raises(UserError, match="truth_ratio_mean='harmonic': allowed are geometric, arithmetic"):
        evaluate({}, {}, truth_ratio_mean="harmonic")


def test_memo_means() -> None:
    memo = {
        "target": {
            "answers": [scored("a", 1.0), scored("b", 0.5)],
            "candidates": [scored("a", 0.2, "candidate", 0), scored("a", 0.4, "candidate", 1)],
        },
        "unlearned": {"answers": [scored("a", 0.25)]},
    }
    results = evaluate({}, memo, truth_ratio_mean="geometric")
    # the mean of 1 and 0.5 is 0.75, that of 0.2 and 0.4 is 0.3
    assert results.values["target"] == {"memo/answers": 0.75, "memo/candidates": pytest.approx(0.3)}
    assert results.values["unlearned"] == {"memo/answers": 0.25}
    expected = "MEMO was not measured on the unlearned model's inverted answers"
    assert results.missing["unlearned"]["memo/candidates"] == expected
    assert results.missing["retain"]["memo/answers"] == "MEMO was not measured on the retain model's true answers"


def test_memo_refuses_doubles() -> None:
    memo = {"target": {"answers": [scored("a", 1.0)], "again": [scored("a", 1.0)]}}
    with pytest.raises(UserError, match="the target model has several MEMO scores of one text"):
        evaluate({}, memo, truth_ratio_mean="geometric")


def test_directions(model: MakeRows) -> None:
    results = evaluate({"target": model()}, {}, truth_ratio_mean="geometric")
    directions = {definition.name: definition.direction for definition in results.definitions}
    assert directions["forget/probability"] == directions["forget/rouge_l_recall"] == "lower"
    assert directions["retain/probability"] == directions["forget/truth_ratio"] == "higher"


def test_json_round_trip(model: MakeRows) -> None:
    results = evaluate({"target": model(), "retain": model(0.3)}, {}, truth_ratio_mean="arithmetic")
    stored = json.loads(json.dumps(results_to_json(results), allow_nan=False))
    assert results_from_json(stored) == results
    with pytest.raises(UserError, match="not stored results of this version"):
        results_from_json({"values": {}})


def test_extra_sets_come_last(model: MakeRows, make_row: MakeRow) -> None:
    rows = [*model(sets=("world_facts", "forget")), make_row("attack"), make_row("holdout")]
    results = evaluate({"target": rows}, {}, truth_ratio_mean="geometric")
    sets = [one.name.split("/")[0] for one in results.definitions if one.name.endswith("/probability")]
    assert sets == ["forget", "world_facts", "holdout", "attack"]


def test_retain_against_itself_is_computed(model: MakeRows) -> None:
    rows = model(0.7)
    values = evaluate({"retain": rows}, {}, truth_ratio_mean="geometric").values["retain"]
    ratios = [math.log(1 / 2) + 0.7, math.log(1 / 4) + 0.7]
    assert values["forget_quality"] == forget_quality(ratios, ratios).p == 1.0
