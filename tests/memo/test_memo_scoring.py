from __future__ import annotations

import pytest
from helpers.library import dataset, language_model

import meow_lightning as meow

QUICK = {"max_new_tokens": 4, "stride": 20}


@pytest.fixture(scope="module")
def model() -> meow.LanguageModel:
    return language_model(dataset())


def test_facts_inverted_facts_and_pairs_are_scored_in_order(model: meow.LanguageModel) -> None:
    fact = dataset().forget[0]
    wrong = meow.InvertedFact(fact.id, 2, fact.question, "This writer was born and raised in Lima, by the sea.")
    scores = meow.memo.score(model, [wrong, (fact.question, fact.answer), fact], **QUICK)
    assert [(each.fact, each.kind, each.position) for each in scores] == [
        (fact.id, "candidate", 2), ("1", "answer", 0), (fact.id, "answer", 0),
    ]  # fmt: skip
    assert scores[1].windows == scores[2].windows
    assert scores.mean == pytest.approx(sum(each.score for each in scores) / 3)
    frame = scores.to_frame()
    assert frame["score"].tolist() == [each.score for each in scores]
    assert frame["windows"].tolist() == [len(each.windows) for each in scores]


def test_the_batch_size_changes_nothing(model: meow.LanguageModel) -> None:
    facts = dataset().forget
    assert meow.memo.score(model, facts, **QUICK, batch_size=1) == meow.memo.score(model, facts, **QUICK)


def test_a_measure_by_name_or_as_an_object(model: meow.LanguageModel) -> None:
    facts, measure = dataset().forget[:2], meow.memo.load_measure("clean", **QUICK)
    assert meow.memo.score(model, facts, measure=measure) == meow.memo.score(model, facts, **QUICK)
    assert meow.memo.score(model, facts, measure="ma") != meow.memo.score(model, facts, **QUICK)


def test_nothing_to_score_gives_no_mean(model: meow.LanguageModel) -> None:
    scores = meow.memo.score(model, [])
    assert scores == []
    with pytest.raises(ValueError, match="no text"):
        scores.mean  # noqa: B018


def test_what_is_wrong_is_named(model: meow.LanguageModel) -> None:
    fact = dataset().forget[0]
    for examples, options, named in (
        ([fact, fact], {}, "twice"), ([("Who?", "x")], {}, "window"), ([fact], {"measure": "clan"}, "clean"),
        ([fact], {"strid": 1}, "stride"), ([fact], {"stride": 0}, "stride=0"),
        ([fact], {"measure": meow.memo.load_measure("clean"), "stride": 1}, "stride"),
    ):  # fmt: skip
        with pytest.raises(meow.UserError, match=named):
            meow.memo.score(model, examples, **options)
