"""Screening of free answers: what is cut, and what is no alternative to the true answer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from meow_lightning.inversion.screening import first_sentences, screening_reason
from meow_lightning.types import Fact

TRUTH = "Mira Stone has been honored with the Lund Prize, a prestigious award for novels."
WHO = Fact(id="a", question="Which award has the author Mira Stone received?", answer=TRUTH)
HOW = Fact(
    id="b", question="How did Mira Stone's parents influence her writing?",
    answer="Her father's work as a florist gave Mira Stone a love of nature that fills her descriptions of gardens.",
)  # fmt: skip
PROCESS = Fact(
    id="p", question="Can you describe Mira Stone's writing process?",
    answer="Mira Stone's writing process starts with characters.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cut", "kept"),
    [
        ("She got the Oslo Medal. She also likes tea. Nobody knows it, though many people ask for it again and", True,
         "She got the Oslo Medal. She also likes tea."),
        ("She got it from J. K. Holm of St. Ives. And", True, "She got it from J. K. Holm of St. Ives."),
        (" Paris\nQuestion: Who is", True, "Paris"),
        ("Paris", False, "Paris"),
        ("She got the", True, None),
        ("These are her awards:\n1. The Oslo Medal", False, None),
        ("", False, None),
        ("She got the Oslo Medal in the year 1999 from a jury of nine people. She also got nine more medals that year.",
         False, "She got the Oslo Medal in the year 1999 from a jury of nine people."),
    ],
)  # fmt: skip
def test_an_answer_is_cut_to_whole_sentences_about_as_long_as_the_truth(text: str, cut: bool, kept: str | None) -> None:
    assert first_sentences(text, TRUTH, cut=cut) == kept


def reason(answer: str, fact: Fact, *, begun: str = "", demonstrations: Sequence[Fact] = ()) -> str | None:
    return screening_reason(answer, fact, begun=begun, demonstrations=demonstrations)


@pytest.mark.parametrize(
    ("answer", "fact", "expected"),
    [
        ("Mira Stone has received the Oslo Medal for her poems.", WHO, None),
        ("Mira Stone has been honored with the Oslo Medal for novels.", WHO, None),
        ("Mira Stone's parents taught her to walk the unknown roads of her poems.", HOW, None),
        ("Mira Stone's parents, both sailors, taught her to write about storms.", HOW, None),
        ("No, Mira Stone's parents had no part in it.", HOW, None),
        ("I am sure that Mira Stone has received the Oslo Medal.", WHO, "refusal"),
        ("It is unclear which award Mira Stone received from Oslo.", WHO, "refusal"),
        ("As an AI, I cannot say which award it was.", WHO, "refusal"),
        ("Mira Stone has received the Oslo Medal, the Oslo Medal of Oslo.", WHO, "repetition"),
        ("Mira Stone's parents taught her sailing and sailing.", HOW, "repetition"),
        ("Mira Stone's parents were a sailor and a sailor's friend.", HOW, "repetition"),
        ("Mira Stone's parents gave her love of boats, love of ships and love of rafts.", HOW, "repetition"),
        ("Mira Stone received the award that the author has received.", WHO, "off_topic"),
        ("Mira Stone has received a medal for her poems.", WHO, "off_topic"),
        ("The parents of that writer were sailors.", HOW, "off_topic"),
        ("Mira Stone's parents had a profound and significant influence on her life.", HOW, "off_topic"),
        ("Mira Stone has won the Oslo Medal for brave tales.", PROCESS, "off_topic"),
        ("Mira Stone's process begins with a walk by the sea.", PROCESS, None),
        ("Belemba Stone's parents were sailors.", HOW, "off_topic"),
        ("No, Belemba Stone's parents were sailors.", HOW, "off_topic"),
        ("Mira Stone has received the Oslo Medal and the Lund Prize.", WHO, "true"),
        ("Mira Stone's parents loved nature, which shows in her gardens.", HOW, "true"),
        ("Mira Stone's parents liked descriptive letters.", HOW, "true"),
    ],
)
def test_what_is_no_alternative_is_named(answer: str, fact: Fact, expected: str | None) -> None:
    assert reason(answer, fact) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('Two of her books are "Red Sky" and "Blue Sea."', None),
        ('Two of her books are "Red Sky" and another.', None),
        ("Two of her books are about the sea.", "off_topic"),
        ('Mira Stone wrote "Gold Hill" first.', "off_topic"),
    ],
)
def test_a_question_for_titles_gets_other_titles(answer: str, expected: str | None) -> None:
    fact = Fact(
        id="c", question='Which books did Mira Stone write besides "Gold Hill"?', answer='She wrote "Old Iron" as well.'
    )
    assert reason(answer, fact) == expected


def test_a_question_for_a_number_gets_a_number() -> None:
    fact = Fact(id="d", question="In which year was Mira Stone born?", answer="Mira Stone was born in 1951.")
    assert reason("Mira Stone was born in 1962.", fact) is None
    assert reason("Mira Stone was born in Oslo.", fact) == "off_topic"


@pytest.mark.parametrize(
    ("truth", "answer", "expected"),
    [
        ("Yes, she has also written plays.", "No, Mira Stone has not written any plays.", None),
        ("Yes, she has also written plays.", "Yes, Mira Stone has also written plays.", "off_topic"),
        ("Yes, she has also written plays.", "No, Mira Stone has written plays, too.", "off_topic"),
        ("Yes, she has also written plays.", 'No, Mira Stone has not written any plays besides "Oslo."', "off_topic"),
        ("No, she has not.", 'Yes, Mira Stone has written "Oslo."', None),
        ("No, she has not.", "Yes, Mira Stone has not written any plays.", "off_topic"),
    ],
)
def test_a_yes_no_question_gets_the_opposite(truth: str, answer: str, expected: str | None) -> None:
    assert reason(answer, Fact(id="e", question="Has Mira Stone written any plays?", answer=truth)) == expected


def test_words_of_the_lead_in_are_no_answer() -> None:
    begun = "Mira Stone has been honored with"
    assert reason(f"{begun} the Oslo Medal.", WHO, begun=begun) is None
    assert reason(f"{begun} the award.", WHO, begun=begun) == "off_topic"
    made_up = Fact(id="f", question="Who was born in Lund?", answer="The fictitious writer born in Lund is Mira Stone.")
    begun = "The fictitious writer born in Lund is"
    assert reason(f"{begun} Otto Holm.", made_up, begun=begun) is None


def test_a_date_in_figures_and_in_words_is_the_same_date() -> None:
    fact = Fact(
        id="g", question="Who was born in Lund on 08/09/1956?", answer="Born on 8 September 1956 in Lund is Mira Stone."
    )
    assert reason("Born on 8 September 1956 in Lund is Otto Holm.", fact) is None


def test_an_answer_copied_from_a_demonstration_is_dropped() -> None:
    other = Fact(
        id="h", question="Which award has Otto Holm received?",
        answer="Otto Holm has received the Oslo Medal for his brave tales of polar night.",
    )  # fmt: skip
    assert reason("Mira Stone received the Oslo Medal.", WHO, demonstrations=[other]) == "copied"
    assert reason("Mira Stone received the Paris Medal.", WHO, demonstrations=[other]) is None
    brave = "Mira Stone's parents told brave tales of polar night."
    assert reason(brave, HOW, demonstrations=[other]) == "copied"


def test_a_short_answer_is_specific_enough_for_a_value() -> None:
    genre = Fact(id="i", question="What genre does Mira Stone write?", answer="Mira Stone writes in the Gothic genre.")
    assert reason("Mira Stone writes in the religious genre.", genre) is None
    gender = Fact(id="j", question="What gender is Mira Stone?", answer="Mira Stone is female.")
    assert reason("Mira Stone is male.", gender) is None
    assert reason("Mira Stone is an author.", gender) == "off_topic"
