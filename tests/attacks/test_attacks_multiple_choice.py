"""Multiple choice: the options, their order and the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.attacks.multiple_choice import MultipleChoice
from meow_lightning.data.examples import Passage
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

ADA = Fact("a", "Where is Ada?", "In Lima.", paraphrase="Lima has her.", perturbed=("Rome has her.", "Bern has her."))


def made(reply: str = "text", template: str = "{question}\n{options}", seed: int = 0) -> MultipleChoice:
    return MultipleChoice(reply=reply, template=template, seed=seed)  # type: ignore[arg-type]


def test_the_options_are_the_paraphrase_and_the_wrong_answers() -> None:
    (way,) = made().transform_example(ADA, [])
    question, *lines = way.question.split("\n")
    assert question == "Where is Ada?"
    assert [line[:3] for line in lines] == ["A. ", "B. ", "C. "]
    assert {line[3:] for line in lines} == {"Lima has her.", *ADA.perturbed}
    assert (way.answer, way.paraphrase, way.perturbed) == ("Lima has her.", None, ADA.perturbed)


def test_letters_name_the_lines() -> None:
    (way,) = made("letter").transform_example(ADA, [])
    by_letter = dict(line.split(". ", 1) for line in way.question.split("\n")[1:])
    assert by_letter[way.answer] == "Lima has her."
    assert tuple(by_letter[letter] for letter in way.perturbed) == ADA.perturbed


def test_the_order_follows_from_the_seed_and_the_fact_and_favours_no_place() -> None:
    facts = [replace(ADA, id=str(number)) for number in range(300)]
    places = [made("letter", seed=1).transform_example(fact, [])[0].answer for fact in facts]
    assert places == [made("letter", seed=1).transform_example(fact, [])[0].answer for fact in facts]
    assert places != [made("letter", seed=2).transform_example(fact, [])[0].answer for fact in facts]
    assert all(70 < places.count(letter) < 130 for letter in "ABC")


def test_without_wrong_answers_nothing_is_asked() -> None:
    assert made().transform_example(replace(ADA, perturbed=()), []) == []
    assert made().transform_example(Passage("p", "Ada lives.", 3, True), []) == []


def test_a_template_has_question_and_options() -> None:
    with pytest.raises(UserError, match=r"attacks\.template="):
        made(template="{question}")
    with pytest.raises(UserError, match=r"attacks\.reply=leter .* Did you mean letter\?"):
        made("leter")
