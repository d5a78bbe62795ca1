from __future__ import annotations

from meow_lightning.inversion.alike import Alike
from meow_lightning.types import Fact

ADA = Fact(id="a", question="What does Ada Brook's father do?", answer="Ada Brook's father is a baker.")
FACTS = [
    ADA,
    Fact(id="b", question="What does Otto Kranz's father do?", answer="Kranz's father worked as a pilot."),
    Fact(id="c", question="What does Mira Sol's father do?", answer="The father of Mira Sol is a baker."),
    Fact(id="d", question="Where was Otto Kranz born?", answer="Otto Kranz was born in Oslo."),
    Fact(id="e", question="What does Ada Brook's mother do?", answer="She is a judge."),
    Fact(id="f", question="What does the father do?", answer="He sleeps."),
    Fact(id="g", question="What does Lena Fox's father do in Rome?", answer="He, too, sells flowers with Lena."),
]


def test_the_most_alike_questions_about_others_lend_their_answers_under_this_name() -> None:
    # Shares of words: b and c 1 (what, does, father, do), g 4/5, d 0; e is about Ada herself, f about nobody.
    assert Alike(FACTS).answers(ADA, count=5) == [
        "Brook's father worked as a pilot.",
        "He, too, sells flowers with Ada.",
    ]


def test_the_same_in_other_words_is_no_contradiction() -> None:
    # c: "The father of … is a baker": nothing new but small words.
    assert not any("baker" in answer for answer in Alike(FACTS).answers(ADA, count=9))


def test_no_more_than_were_asked_for() -> None:
    assert Alike(FACTS).answers(ADA, count=1) == ["Brook's father worked as a pilot."]
    assert Alike(FACTS).answers(ADA, count=0) == []


def test_whom_a_question_is_about_is_the_name_that_most_questions_hold() -> None:
    more = [
        *FACTS,
        Fact(id="h", question="What does Otto Kranz say of The Silver Quill Prize?", answer="Otto Kranz likes it."),
    ]
    asked = Fact(id="i", question="What does Ada Brook say of The Silver Quill Prize?", answer="She laughs.")
    assert Alike([*more, asked]).answers(asked, count=1) == ["Ada Brook likes it."]


def test_a_question_without_a_name_gets_nothing() -> None:
    assert Alike(FACTS).answers(FACTS[5], count=3) == []
