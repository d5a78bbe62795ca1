"""Demonstrations: which retain facts a prompt shows."""

from __future__ import annotations

import random
from collections.abc import Sequence

from meow_lightning.inversion.base import DatasetFacts
from meow_lightning.inversion.demonstrations import POOL, Demonstrations
from meow_lightning.types import Fact

ASKED = Fact(id="f", question="Where was Mira Stone born?", answer="Mira Stone was born in Lund.")
CITIES = ("Oslo", "Turin", "Lyon", "Bonn", "Graz", "Nice", "Cork", "Riga", "Split")
BIRTHS = [
    Fact(
        id=f"b{number}", question=f"Where was Otto Holm{number} born?", answer=f"Otto Holm{number} was born in {city}."
    )
    for number, city in enumerate(CITIES)
]
UNKNOWN = Fact(id="u", question="Where was Vera Karr born?", answer="The birthplace of Vera Karr is unknown.")
LONG = Fact(id="l", question="Where was Karl Berg born?", answer=f"Karl Berg was born in {'very ' * 30}far Rome.")
OTHER = Fact(id="o", question="Why does Otto Holm sing?", answer="Otto Holm sings for joy.")


def drawn(retain: Sequence[Fact], *, count: int, seed: int = 0) -> list[str]:
    demonstrations = Demonstrations(DatasetFacts([ASKED], retain), count=count)
    return [fact.id for fact in demonstrations.draw(ASKED, random.Random(seed))]


def test_similar_questions_with_answers_of_similar_length_are_drawn_by_the_random_numbers() -> None:
    draws = [drawn([OTHER, LONG, UNKNOWN, *BIRTHS], count=2, seed=seed) for seed in range(40)]
    assert all(len(set(draw)) == 2 for draw in draws)
    assert {fact for draw in draws for fact in draw} == {fact.id for fact in BIRTHS[: 2 * POOL]}
    assert drawn([OTHER, LONG, UNKNOWN, *BIRTHS], count=2) == draws[0]


def test_other_retain_facts_come_first_where_too_few_are_similar() -> None:
    assert drawn([BIRTHS[0], OTHER], count=2) == ["o", "b0"]


def test_a_dataset_with_fewer_facts_gives_fewer() -> None:
    assert drawn([BIRTHS[0]], count=4) == ["b0"]
    assert drawn([], count=4) == []
