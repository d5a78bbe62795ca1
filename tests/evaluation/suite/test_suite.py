from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import pytest

from meow_lightning.errors import UserError
from meow_lightning.evaluation.metrics.forget_quality import forget_quality
from meow_lightning.evaluation.suite.suite import evaluate, results_from_json, results_to_json
from meow_lightning.types import ROLES, AnswerRow, ScoredText

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


def test_numbers_of_a_complete_run_by_hand(model: MakeRows) -> None:
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


def told(make_row: MakeRow, texts: Sequence[str], probability: float) -> list[AnswerRow]:
    """Rows of the forget set with these answers, the true one being ``Lima in Peru``."""
    truth = [math.log(probability)]
    question = "Where in Peru is Ada from?"
    return [
        make_row("forget", i, truth=truth, question=question, answer="Lima in Peru", text=text)
        for i, text in enumerate(texts)
    ]


def test_knowledge_of_the_target_is_relative_to_the_retain_model_per_question(make_row: MakeRow) -> None:
    target = told(make_row, ["Lima in Peru", "Oslo in Peru"], 0.5)  # ROUGE-L recall 1 and 2/3: 5/6
    retain = told(make_row, ["Oslo in Peru", "Rome in Peru"], 0.25)  # 2/3
    values = evaluate({"target": target, "retain": retain}, {}, truth_ratio_mean="geometric").values
    assert values["target"]["facts_known"] == pytest.approx((5 / 6 - 2 / 3) / (1 - 2 / 3))  # 1/2
    assert "facts_known" not in values["retain"]
    likely = told(make_row, ["Oslo in Peru", "Rome in Peru"], 0.85)  # by probability (.85 - .25) / .75 = .8
    values = evaluate({"target": likely, "retain": retain}, {}, truth_ratio_mean="geometric").values
    assert values["target"]["facts_known"] == pytest.approx(0.8)


def test_marked_values_tell_more_than_words_that_answers_share(make_row: MakeRow) -> None:
    def said(*texts: str) -> list[AnswerRow]:
        rows = told(make_row, texts, 0.9)
        return [replace(row, value="Lima") for row in rows]

    # two thirds of the words of every answer, and all but certain, but one value of four
    target = said("Lima in Peru", "Oslo in Peru", "Oslo in Peru", "Oslo in Peru")
    for retain in ({}, {"retain": said(*["Rome"] * 4)}):
        values = evaluate({"target": target, **retain}, {}, truth_ratio_mean="geometric").values
        assert values["target"]["facts_known"] == pytest.approx(0.25)


def test_without_a_retain_model_saying_the_question_back_is_no_knowledge_by_hand(make_row: MakeRow) -> None:
    # "in peru" of the question are two of the three words of the answer
    echoing = told(make_row, ["Where in Peru is Ada from?"] * 2, 0.5)
    values = evaluate({"target": echoing}, {}, truth_ratio_mean="geometric").values
    assert values["target"]["facts_known"] == pytest.approx(0.0)
    knowing = told(make_row, ["Lima in Peru", "Peru in Lima"], 0.5)  # 1 and 1/3
    values = evaluate({"target": knowing}, {}, truth_ratio_mean="geometric").values
    assert values["target"]["facts_known"] == pytest.approx((2 / 3 - 2 / 3) / (1 / 3))


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
    assert len(names) == len(results.definitions)
    assert {"forget/probability", "model_utility", "forget_quality", "facts_known", "memo/answers"} <= names
    for role in ROLES:
        assert not set(results.values[role]) & set(results.missing[role])
        assert set(results.values[role]) | set(results.missing[role]) == names
        assert all(results.missing[role].values())
    assert results.values["retain"] == {}
    missing = results.missing
    assert missing["unlearned"]["forget_quality"] == "not measured: this run has no predictions of the retain model"
    assert missing["retain"]["model_utility"] == "this run has no predictions of the retain model"
    assert missing["unlearned"]["retain/probability"] == "the unlearned model has no predictions on set 'retain'"
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
    assert "have no wrong (perturbed) answers" in results.missing["target"]["forget_quality"]
    assert results.missing["target"]["forget/value_accuracy"].startswith("no question of set 'forget' marks the words")


def test_questions_without_wrong_answers_are_left_out_and_counted(make_row: MakeRow) -> None:
    names = ("forget", "retain", "real_authors", "world_facts")
    whole = [make_row(name, index, perturbed=[[-2.0 - index]]) for name in names for index in range(3)]
    bare = [make_row(name, 3) for name in ("forget", "retain")]
    rows = sorted([*whole, *bare], key=lambda row: names.index(row.set))
    results = evaluate({"target": rows, "retain": rows}, {}, truth_ratio_mean="geometric")
    without = evaluate({"target": whole, "retain": whole}, {}, truth_ratio_mean="geometric")
    found, expected = results.values["target"], without.values["target"]
    for name in ("retain/truth_ratio", "forget/truth_ratio", "model_utility"):
        assert found[name] == pytest.approx(expected[name]), name
    assert (found["retain/truth_ratio_covered"], found["retain/truth_ratio_out_of"]) == (3.0, 4.0)
    assert not [name for name in {*found, *expected} if "world_facts/truth_ratio_" in name], "all have wrong answers"
    assert not [each for each in without.definitions if each.name.startswith("retain/truth_ratio_")]
    assert "have no wrong (perturbed) answers" in results.missing["target"]["forget_quality"]


def test_a_diverged_model_is_reported_not_averaged(make_row: MakeRow, model: MakeRows) -> None:
    broken = [make_row("forget", i, truth=[math.nan], perturbed=[[-1.0]]) for i in range(2)]
    results = evaluate({"unlearned": broken, "retain": model()}, {}, truth_ratio_mean="geometric")
    missing = results.missing["unlearned"]
    assert missing["forget/probability"].startswith("its value is nan: some answers have a likelihood")
    assert missing["forget/truth_ratio"].startswith("its value is nan")
    assert missing["forget_quality"].startswith("not measured: 2 of 2 truth ratios of the unlearned model are NaN")
    assert "forget_quality" in results.values["retain"]


def test_different_questions_are_refused(model: MakeRows) -> None:
    rows = {"unlearned": model(), "retain": [row for row in model() if row.set != "forget" or row.index == 0]}
    with pytest.raises(UserError, match="the unlearned model has 2 questions, the retain model has 1"):
        evaluate(rows, {}, truth_ratio_mean="geometric")


def test_incomplete_set_names_the_role(make_row: MakeRow) -> None:
    with pytest.raises(UserError, match="predictions of the target model: set 'forget' contains index 0 not at all"):
        evaluate({"target": [make_row(index=1)]}, {}, truth_ratio_mean="geometric")


def test_unknown_role_and_mean(model: MakeRows) -> None:
    with pytest.raises(UserError, match=r"^role=base is invalid: expected one of target, unlearned, retain"):
        evaluate({"base": model()}, {}, truth_ratio_mean="geometric")
    message = r"truth_ratio_mean=harmonic is invalid: expected one of geometric, arithmetic\. Did you mean arithmetic\?"
    with pytest.raises(UserError, match=message):
        evaluate({}, {}, truth_ratio_mean="harmonic")


@pytest.fixture
def members(make_row: MakeRow) -> MakeRows:
    """Two forget and two holdout questions with the losses given; every answer has a word and the end token."""

    def build(forget: Sequence[float], holdout: Sequence[float]) -> list[AnswerRow]:
        sides = (("forget", forget), ("holdout", holdout))
        return [
            make_row(name, index, truth=[-loss, -loss], answer=f"{name} {index}")
            for name, losses in sides
            for index, loss in enumerate(losses)
        ]

    return build


def test_membership_by_hand(members: MakeRows) -> None:
    rows = {
        "target": members([1.0, 1.0], [2.0, 3.0]),
        "retain": members([2.0, 4.0], [3.0, 3.0]),
        "unlearned": members([5.0, 2.0], [2.0, 3.0]),
    }
    values = evaluate(rows, {}, truth_ratio_mean="geometric").values
    # the target's forget losses are below both others; the unlearned model's 5 below none, 2 below 3 and ties with 2
    aucs = {"target": 1.0, "retain": 0.5, "unlearned": (1 + 1 / 2) / 4}
    for role, expected in aucs.items():
        for attack in ("loss", "min_k_20", "min_k_40"):
            assert values[role][f"membership/{attack}_auc"] == expected
    # loss minus the retain model's: target -1, -3 against -1, 0: -3 below both, -1 ties and below: 3.5 of 4;
    # unlearned 3, -2 against -1, 0: 2 of 4
    assert values["target"]["membership/reference_auc"] == 3.5 / 4
    assert values["unlearned"]["membership/reference_auc"] == 0.5
    assert values["retain"]["membership/reference_auc"] == 0.5
    # against the retain model's .5: 0 - .5 over .5, and .625 - .5 over .5
    assert values["target"]["privacy_leakage/min_k_40"] == -1.0
    assert values["retain"]["privacy_leakage/min_k_20"] == 0.0
    assert values["unlearned"]["privacy_leakage/min_k_40"] == pytest.approx(0.25)


def test_min_k_plus_plus_wants_the_models_own_spread(members: MakeRows) -> None:
    alike = members([1.0, 1.0], [2.0, 3.0])
    results = evaluate({"target": alike}, {}, truth_ratio_mean="geometric")
    for share in (20, 40):
        reason = results.missing["target"][f"membership/min_k_plus_plus_{share}_auc"]
        assert reason.startswith("not measured: the stored predictions have mean and standard deviation over the")
    # z = (-1 + .5) / 1 against (-2 + .5) / 1 and (-3 + .5) / 10: above the first, below the second
    own = [replace(row, truth=replace(row.truth, mean=(-0.5, -0.5), std=(1.0, 1.0))) for row in alike]
    own[3] = replace(own[3], truth=replace(own[3].truth, std=(10.0, 10.0)))
    values = evaluate({"target": own}, {}, truth_ratio_mean="geometric").values["target"]
    assert values["membership/min_k_plus_plus_20_auc"] == 0.5


def test_membership_by_gradients(members: MakeRows) -> None:
    plain = members([1.0, 1.0], [2.0, 3.0])
    # a member's is small: .5 is below 2 and 4, 2 ties with 2 and is below 4: 3.5 of 4
    rows = [replace(row, gradient=norm) for row, norm in zip(plain, (0.5, 2.0, 2.0, 4.0), strict=True)]
    values = evaluate({"target": rows}, {}, truth_ratio_mean="geometric").values["target"]
    assert values["membership/gradient_norm_auc"] == 3.5 / 4

    lacking = [*rows[:3], plain[3]]
    missing = evaluate({"target": lacking, "retain": plain}, {}, truth_ratio_mean="geometric").missing
    reason = (
        "not measured: {} have no gradient norm: they come from a log, consist of the end token only, or "
        "were predicted with evaluation.gradient_norm=false"
    )
    name = "membership/gradient_norm_auc"
    assert missing["target"][name] == reason.format("1 of 2 true answers of set 'holdout'")
    assert missing["retain"][name] == reason.format("2 of 2 true answers of set 'forget'")

    broken = [*rows[:3], replace(rows[3], gradient=math.nan)]
    missing = evaluate({"target": broken}, {}, truth_ratio_mean="geometric").missing["target"]
    assert missing[name].startswith("not measured: 1 of 4 scores of the target model are NaN")


def test_why_there_is_no_membership(members: MakeRows, model: MakeRows) -> None:
    every = members([1.0, 1.0], [2.0, 2.0])
    forget = [row for row in every if row.set == "forget"]
    missing = evaluate({"target": forget}, {}, truth_ratio_mean="geometric").missing
    holdout = "the dataset has no set 'holdout': questions like the forget set's that no model was trained on"
    assert missing["target"]["membership/loss_auc"] == f"not measured: {holdout}"
    assert missing["target"]["privacy_leakage/min_k_40"] == f"not measured: {holdout}"
    absent = "not measured: this run has no predictions of the retain model"
    assert missing["retain"]["membership/loss_auc"] == absent

    results = evaluate({"target": every, "retain": forget}, {}, truth_ratio_mean="geometric")
    lacks = "not measured: the retain model has no predictions on set 'holdout'"
    assert results.values["target"]["membership/min_k_40_auc"] == 1.0
    assert results.missing["target"]["membership/reference_auc"] == lacks
    assert results.missing["target"]["privacy_leakage/min_k_40"] == lacks

    results = evaluate({"target": every}, {}, truth_ratio_mean="geometric", absent={"retain": "made without one"})
    assert results.missing["target"]["privacy_leakage/min_k_40"] == "not measured: made without one"

    # the retain model itself is told perfectly
    missing = evaluate({"target": every, "retain": every}, {}, truth_ratio_mean="geometric").missing
    reason = missing["target"]["privacy_leakage/min_k_20"]
    assert reason.startswith("not measured: the attack's AUC on the retain model is 1, and privacy leakage divides by")

    missing = evaluate({"target": members([math.nan], [1.0])}, {}, truth_ratio_mean="geometric").missing
    reason = "not measured: 1 of 2 scores of the target model are NaN; did training diverge?"
    assert missing["target"]["membership/loss_auc"] == reason


def test_membership_refuses_other_holdout_questions(members: MakeRows, make_row: MakeRow) -> None:
    rows = members([1.0], [2.0])
    other = [rows[0], make_row("holdout", 0, answer="something else")]
    with pytest.raises(UserError, match="question 0 differs: the target model has fact 'holdout-0'"):
        evaluate({"target": rows, "retain": other}, {}, truth_ratio_mean="geometric")


def test_further_numbers_of_a_set_by_hand(make_row: MakeRow) -> None:
    # words 1 0 1 and 1 1; the answers bring back 1 of 2 words, then both in another order
    first = make_row("forget", 0, truth=[-1.0] * 4, hits=[1, 0, 1, 1], answer="red sky", text="red", stop="length")
    second = make_row("forget", 1, truth=[-1.0] * 3, hits=[1, 1, 1], answer="red sea", text="sea red")
    values = evaluate({"target": [first, second]}, {}, truth_ratio_mean="geometric").values["target"]
    assert values["forget/exact_memorisation"] == pytest.approx(5 / 6)
    assert values["forget/extraction_strength"] == pytest.approx(4 / 6)
    assert values["forget/rouge_1_recall"] == 0.75
    assert values["forget/rouge_l_recall"] == 0.5
    assert values["forget/ended"] == 0.5
    assert values["forget/repetition"] == 0.0
    # the other row's true answer begins with "red": [red] of [red] [red]; none of [sea] [sea red] [red]
    assert values["forget/fluency"] == 0.25


def test_normalised_probability_stands_where_probability_is_that_of_the_answer_alone(model: MakeRows) -> None:
    results = evaluate({"target": model()}, {}, truth_ratio_mean="geometric")
    names = [one.name for one in results.definitions if one.name.endswith("/normalised_probability")]
    assert names == ["forget/normalised_probability", "retain/normalised_probability"]
    # 0.5 / (0.5 + 3 * 0.25) = 0.4 and 0.5 / (0.5 + 3 * 0.125) = 4/7; mean 17/35
    assert results.values["target"]["forget/normalised_probability"] == pytest.approx(17 / 35)


def test_metrics_that_a_log_lacks_are_missing(make_row: MakeRow) -> None:
    rows = [make_row(name, index, generated=(), stop="length") for name in ("forget", "holdout") for index in range(2)]
    rows = [replace(row, truth=replace(row.truth, hits=(), mean=(), std=())) for row in rows]
    results = evaluate({"target": rows, "retain": rows}, {}, truth_ratio_mean="geometric")
    missing = results.missing["target"]
    tokens = "2 of 2 true answers of set 'forget' have only a mean loss and no per-token likelihoods"
    for name in ("forget/exact_memorisation", "forget/extraction_strength"):
        assert missing[name] == f"{tokens}: they come from a log"
    for name in ("membership/min_k_20_auc", "membership/min_k_plus_plus_40_auc", "privacy_leakage/min_k_40"):
        assert missing[name] == f"not measured: {tokens}: they come from a log"
    assert missing["forget/ended"].startswith("2 of 2 questions of set 'forget' have no stop reason of the")
    # mean losses are all that these need
    names = ("membership/loss_auc", "membership/zlib_auc", "membership/reference_auc", "forget/fluency")
    assert set(names) <= set(results.values["target"])


def test_an_answer_without_words_has_nothing_to_memorise(make_row: MakeRow) -> None:
    missing = evaluate({"target": [make_row(truth=[-1.0])]}, {}, truth_ratio_mean="geometric").missing["target"]
    reason = "1 of 1 true answers of set 'forget' have no token besides the end token"
    assert missing["forget/exact_memorisation"] == missing["forget/extraction_strength"] == reason


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
    expected = "the inverted answers have no MEMO scores of the unlearned model"
    assert results.missing["unlearned"]["memo/candidates"] == expected
    assert results.missing["retain"]["memo/answers"] == "the true answers have no MEMO scores of the retain model"


def test_memo_refuses_doubles() -> None:
    memo = {"target": {"answers": [scored("a", 1.0)], "again": [scored("a", 1.0)]}}
    with pytest.raises(UserError, match="MEMO scores of the target model are invalid: expected one per text"):
        evaluate({}, memo, truth_ratio_mean="geometric")


def test_directions(model: MakeRows) -> None:
    results = evaluate({"target": model()}, {}, truth_ratio_mean="geometric")
    directions = {definition.name: definition.direction for definition in results.definitions}
    assert directions["forget/probability"] == directions["forget/rouge_l_recall"] == "lower"
    assert directions["retain/probability"] == directions["forget/truth_ratio"] == "higher"
    assert directions["forget/extraction_strength"] == directions["forget/rouge_1_recall"] == "lower"
    assert directions["retain/extraction_strength"] == directions["forget/fluency"] == "higher"
    assert directions["forget/repetition"] == directions["retain/repetition"] == "lower"
    assert directions["membership/loss_auc"] == directions["privacy_leakage/min_k_40"] == "none"


def test_json_round_trip(model: MakeRows) -> None:
    results = evaluate({"target": model(), "retain": model(0.3)}, {}, truth_ratio_mean="arithmetic")
    stored = json.loads(json.dumps(results_to_json(results), allow_nan=False))
    assert results_from_json(stored) == results
    with pytest.raises(UserError, match="stored results do not match this version"):
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


@pytest.mark.parametrize("protocol", ["tofu", "open_unlearning"])
def test_texts_that_a_published_tokenizer_cannot_read_are_not_measured(make_row: MakeRow, protocol: str) -> None:
    rows = [
        make_row("forget", 0, answer="Lima", text="Lima"),
        make_row("forget", 1, answer="1971年生于北京市", text="1971年生于北京市"),
    ]
    ours, published = (
        evaluate({"target": rows}, {}, truth_ratio_mean="geometric", protocol=each) for each in ("none", protocol)
    )
    for number in ("forget/rouge_l_recall", "forget/rouge_1_recall"):
        assert ours.values["target"][number] == 1.0
        assert published.missing["target"][number] == (
            "not measured: 1 of 2 true answers of set 'forget' cannot be read: "
            "the published tokenizer knows only a-z and 0-9"
        )


def test_answers_without_any_word_are_not_measured(make_row: MakeRow) -> None:
    signs = [make_row("forget", 0, answer="!!!", text="!!!")]
    results = evaluate({"target": signs}, {}, truth_ratio_mean="geometric")
    assert results.missing["target"]["forget/rouge_l_recall"] == (
        "not measured: none of 1 true answers of set 'forget' contains a word"
    )
    mixed = [*signs, make_row("forget", 1, answer="red sky", text="red")]
    results = evaluate({"target": mixed}, {}, truth_ratio_mean="geometric")
    assert results.values["target"]["forget/rouge_l_recall"] == 0.5
