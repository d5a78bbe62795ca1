from __future__ import annotations

from math import log, sqrt
from typing import Any

import pytest

from meow_lightning.data.encoding import TRAINED_FIELDS, digest_of
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.streams.base import Chosen
from meow_lightning.data.streams.neighbours import Neighbours
from meow_lightning.errors import UserError
from meow_lightning.types import Fact, Segments


class Data:
    name = "some"

    def __init__(self, forget: list[str], retain: list[str]) -> None:
        self._facts = {
            "forget": [Fact(f"f{place}", question, "Lima.") for place, question in enumerate(forget)],
            "retain": [
                Fact(f"r{place}", question, f"In {place}.", phrasings=((f"{question}?", "Yes."),))
                for place, question in enumerate(retain)
            ],
        }

    def facts(self, split: str) -> list[Fact]:
        return self._facts[split]


def chosen(forget: list[str], retain: list[str], count: int) -> list[Chosen]:
    data: Any = Data(forget, retain)
    return Neighbours(count).chosen(data, seed=0)


def test_similarity_is_the_cosine_of_tfidf_vectors() -> None:
    # "ada" is in 2 of 4 questions, "born" in 2, "lived" in 1, "otto" in 1, "died" in 1, "the" in all
    found = chosen(["The Ada born"], ["The Ada lived", "the Otto born.", "The, died"], 3)
    two, four = log(2), log(4)
    ada = two**2 / (sqrt(2 * two**2) * sqrt(two**2 + four**2))
    assert [(each.example, each.question) for each in found] == [("r0", "f0"), ("r1", "f0")]  # no word with "died"
    assert [each.similarity for each in found] == pytest.approx([ada, ada], abs=1e-9)


def test_each_question_has_its_nearest_and_ties_go_by_the_order_of_the_retain_set() -> None:
    retain = ["Where was Ada born?", "Where was Otto born?", "Where was Ida born?", "Which pet has Ada?"]
    found = chosen(["Where was Ada Bo born?", "Which pet has Ada Bo?"], retain, 1)
    assert [(each.example, each.question) for each in found] == [("r0", "f0"), ("r3", "f1")]
    tied = chosen(["Where was Bo born?"], ["What is it?", "Where was Ida born?", "Where was Ada born?"], 1)
    assert [each.example for each in tied] == ["r1"]


def test_a_question_whose_neighbours_are_taken_gets_the_next() -> None:
    retain = ["Which pet has Ida?", "Which pet has Otto?", "Which pet has Ida's father?", "Who?"]
    found = chosen(["Which pet has Ida?", "Which pet has Ada?", "Which pet has Bo?", "Which?"], retain, 1)
    assert [(each.example, each.question) for each in found] == [("r0", "f0"), ("r1", "f1"), ("r2", "f2")]
    assert found[0].similarity == pytest.approx(1.0)


def test_rows_are_those_of_the_neighbours_with_their_phrasings() -> None:
    data: Any = Data(["Which pet has Ada?"], ["Who?", "Which pet has Otto?", "Which pet is it?"])
    builder = Neighbours(2)
    assert builder.segments(data, seed=0) == [
        Segments("Which pet has Otto?", "In 1."), Segments("Which pet has Otto??", "Yes."),
        Segments("Which pet is it?", "In 2."), Segments("Which pet is it??", "Yes."),
    ]  # fmt: skip
    assert [each.id for each in builder.examples(data, seed=0)] == ["r1", "r2"]
    assert builder.digest(data, seed=0) == digest_of(data.facts("retain")[1:], TRAINED_FIELDS)
    assert not builder.compared


def test_without_a_shared_word_there_is_no_neighbour() -> None:
    with pytest.raises(UserError, match=r"^no retain question of dataset=some shares a word .*method\.neighbours=0"):
        chosen(["Where?"], ["Who?", "When?"], 2)


def test_fictional_neighbours_ask_for_the_same_or_about_the_same_name() -> None:
    data: Any = Fictional(split="forget10", authors=40, candidates=1, phrasings=1, retain_eval=8, seed=0)
    found = Neighbours(2).chosen(data, seed=0)
    assert len(found) == len({each.example for each in found})
    assert len(found) == 2 * len(data.facts("forget"))
    retain, forget = ({fact.id: fact for fact in data.facts(split)} for split in ("retain", "forget"))
    assert all({*retain[each.example].question.split()} & {*forget[each.question].question.split()} for each in found)
