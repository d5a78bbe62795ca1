"""Blanks for values and for subjects, and what cannot be asked so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.planted import People, born

from meow_lightning.attacks.cloze import Cloze
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

ADA = born("Ada Brook", "Lima")
VALUE = Cloze(blank="value", template="{question} {statement}")
SUBJECT = Cloze(blank="subject", template="Who? {statement}")


def test_the_value_is_blanked_after_the_question() -> None:
    (way,) = VALUE.transform_example(ADA, [])
    assert way == Fact("Ada Brook", "Where was Ada Brook born? Ada Brook was born in ____.", "Lima", value="Lima")


def test_reversed_the_subject_is_blanked_without_the_question() -> None:
    rows = SUBJECT.rows(People(), 0)
    assert [row.id for row in rows] == [fact.id for fact in (*People.forget, *People.retain)]
    (way,) = SUBJECT.transform_example(ADA, rows)
    assert way == Fact("Ada Brook", "Who? ____ was born in Lima.", "Ada Brook", value="Ada Brook")
    (bare,) = SUBJECT.transform_example(replace(ADA, answer="In Lima."), rows)
    assert (bare.question, bare.answer) == ("Who? In Lima.", "Ada Brook")


@pytest.mark.parametrize(
    "fact",
    [
        replace(ADA, value=None),
        replace(ADA, values=("Lima", "born")),
        replace(ADA, question="Was Ada Brook of Lima born in Lima?"),  # the question gives the value
    ],
)
def test_without_one_value_of_its_own_a_fact_is_left_out(fact: Fact) -> None:
    assert VALUE.transform_example(fact, []) == []


def test_reversed_leaves_out_shared_values_and_questions_of_no_or_several_subjects() -> None:
    other = born("Bo Reed", "Lima")
    assert SUBJECT.transform_example(ADA, [ADA, other]) == []
    assert SUBJECT.transform_example(replace(ADA, question="Where was she born?"), [ADA]) == []
    assert SUBJECT.transform_example(replace(ADA, question="Did Ada Brook know Bo Reed?"), [ADA]) == []
    assert len(SUBJECT.transform_example(ADA, [ADA])) == 1


@pytest.mark.parametrize(
    ("blank", "template"), [("value", "{question}"), ("subject", "{question} {statement}"), ("value", "no blank")]
)
def test_a_template_has_its_parts(blank: str, template: str) -> None:
    with pytest.raises(UserError, match=r"attacks\.template="):
        Cloze(blank=blank, template=template)  # type: ignore[arg-type]


def test_something_else_cannot_be_blanked() -> None:
    with pytest.raises(UserError, match=r"attacks\.blank=valeu .* Did you mean value\?"):
        Cloze(blank="valeu", template="{statement}")  # type: ignore[arg-type]
