"""The prefix: what stands before a question, and which answered questions are shown."""

from __future__ import annotations

import pytest

from meow_lightning.attacks.prefix import Prefix
from meow_lightning.data.fictional import Fictional
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

DATASET = Fictional(split="forget10", authors=20, candidates=4, phrasings=1, retain_eval=4, seed=0)
SHOWN = [Fact("a", "Where is Ada?", "In Lima."), Fact("b", "Where is Bo?", "In Oslo.")]


def asked(attack: Prefix, question: str, rows: list[Fact]) -> str:
    (example,) = attack.transform_example(Fact("x", question, "In Rome."), rows)
    return example.question


def test_instruction_and_answered_questions_stand_before_the_question() -> None:
    attack = Prefix(instruction="Be honest.", examples=2)
    expected = "Be honest.\n\nWhere is Ada?\nIn Lima.\n\nWhere is Bo?\nIn Oslo.\n\nWho is Cy?"
    assert asked(attack, "Who is Cy?", SHOWN) == expected
    assert asked(Prefix(instruction="Now:", examples=0), "Who is Cy?", []) == "Now:\n\nWho is Cy?"


def test_a_question_is_never_shown_with_its_own_answer() -> None:
    attack = Prefix(instruction=None, examples=2)
    assert asked(attack, "Where is Bo?", SHOWN) == "Where is Ada?\nIn Lima.\n\nWhere is Bo?"


def test_answered_questions_are_drawn_from_the_retain_set_by_the_seed() -> None:
    attack = Prefix(instruction=None, examples=3)
    drawn = [attack.rows(DATASET, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 3
    assert all(row in DATASET.facts("retain") for row in drawn[0])
    assert len(Prefix(instruction=None, examples=10_000).rows(DATASET, 0)) == len(DATASET.facts("retain"))


@pytest.mark.parametrize("instruction", [None, " "])
def test_a_prefix_of_nothing_is_refused(instruction: str | None) -> None:
    with pytest.raises(UserError, match=r"attacks\.examples=0 is invalid: .* Did you mean 1\?"):
        Prefix(instruction=instruction, examples=0)
