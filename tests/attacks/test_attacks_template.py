"""Templates: where the question stands, and which are left out."""

from __future__ import annotations

import pytest

from meow_lightning.attacks.template import Template
from meow_lightning.data.examples import Passage
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

ADA = Fact("a", "Where is Ada?", "In Lima.")


def test_the_question_stands_in_each_template_in_their_order() -> None:
    attack = Template(templates={"one": "Please: {question}", "none": None, "two": "{question} Now!"})
    assert [way.question for way in attack.transform_example(ADA, [])] == [
        "Please: Where is Ada?",
        "Where is Ada? Now!",
    ]
    assert {way.answer for way in attack.transform_example(ADA, [])} == {"In Lima."}


def test_a_passage_asks_nothing() -> None:
    assert Template(templates={"one": "{question}"}).transform_example(Passage("p", "Ada lives.", 3, True), []) == []


@pytest.mark.parametrize("text", ["Answer!", "{question} {question}"])
def test_a_template_has_the_question_once(text: str) -> None:
    with pytest.raises(UserError, match=r"attacks\.templates\.mine="):
        Template(templates={"mine": text})


def test_no_template_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"attacks\.templates=\{\}"):
        Template(templates={"one": None})
