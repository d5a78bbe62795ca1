from __future__ import annotations

import pytest
from helpers.library import dataset, language_model

import meow_lightning as meow
from meow_lightning.data.encoding import encode
from meow_lightning.evaluation.gradient import gradient_cosines
from meow_lightning.types import InvertedFact, Segments


def inverted(facts, answers: dict[int, list[str]]) -> list[InvertedFact]:
    return [
        InvertedFact(facts[index].id, position, facts[index].question, text)
        for index, texts in answers.items()
        for position, text in enumerate(texts)
    ]


def test_cosines_of_every_fact_with_two_answers() -> None:
    data = dataset(limit=3)
    model, facts = language_model(data), data.facts("forget")
    texts = {0: ["In Rome.", "In Oslo.", "In Rome."], 1: ["A baker."], 2: ["In 1971.", "In 1980."]}
    found = list(meow.answer_cosines(model, facts, inverted(facts, texts)))
    assert [each.fact for each in found] == [facts[0].id, facts[2].id]

    def cosine(one: Segments, other: Segments) -> float:
        return gradient_cosines(model.model, encode(model.encoder, [one, other]), pad_id=model.encoder.pad_id)[0][1]

    first, second = Segments(facts[0].question, "In Rome."), Segments(facts[0].question, "In Oslo.")
    true, other = Segments(facts[0].question, facts[0].answer), Segments(facts[2].question, "In 1971.")
    assert found[0].inverted == pytest.approx(cosine(first, second), abs=1e-9)
    assert found[0].true == pytest.approx((cosine(first, true) + cosine(second, true)) / 2, abs=1e-9)
    assert found[0].unrelated == pytest.approx((cosine(first, other) + cosine(second, other)) / 2, abs=1e-9)


def test_facts_with_one_answer_have_no_cosines() -> None:
    data = dataset(limit=2)
    facts = data.facts("forget")
    with pytest.raises(meow.UserError, match="0 of 2 facts have two different inverted answers"):
        next(meow.answer_cosines(language_model(data), facts, inverted(facts, {0: ["In Rome."], 1: ["In Oslo."]})))
