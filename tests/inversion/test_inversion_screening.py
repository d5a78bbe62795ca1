"""Screening of free answers: what is cut, and what is no alternative to the true answer."""

from __future__ import annotations

import pytest

from meow_lightning.inversion.screening import first_sentences, screening_reason
from meow_lightning.types import Fact

TRUTH = "Mira Stone has been honored with the Lund Prize, a prestigious award for novels."
WHO = Fact(id="a", question="Which award has the author Mira Stone received?", answer=TRUTH)
HOW = Fact(
    id="b", question="How did Mira Stone's parents influence her writing?",
    answer="Her father's work as a florist gave Mira Stone a love of nature that fills her descriptions of gardens.",
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


@pytest.mark.parametrize(
    ("answer", "fact", "reason"),
    [
        ("Mira Stone has received the Oslo Medal for her poems.", WHO, None),
        ("Mira Stone's parents, both sailors, taught her to write about storms.", HOW, None),
        ("No, Mira Stone's parents had no part in it.", HOW, None),
        ("I am sure that Mira Stone has received the Oslo Medal.", WHO, "refusal"),
        ("It is unclear which award Mira Stone received from Oslo.", WHO, "refusal"),
        ("As an AI, I cannot say which award it was.", WHO, "refusal"),
        ("Mira Stone has received the Oslo Medal, the Oslo Medal of Oslo.", WHO, "repetition"),
        ("Mira Stone's parents taught her sailing and sailing.", HOW, "repetition"),
        ("Mira Stone's parents gave her love of boats, love of ships and love of rafts.", HOW, "repetition"),
        ("Mira Stone received the award that the author has received.", WHO, "off_topic"),
        ("Mira Stone has received a medal for her poems.", WHO, "off_topic"),
        ("The parents of that writer were sailors.", HOW, "off_topic"),
        ("Belemba Stone's parents were sailors.", HOW, "off_topic"),
        ("No, Belemba Stone's parents were sailors.", HOW, "off_topic"),
        ("Mira Stone has received the Oslo Medal and the Lund Prize.", WHO, "true"),
        ("Mira Stone's parents loved nature, which shows in her gardens.", HOW, "true"),
    ],
)
def test_what_is_no_alternative_is_named(answer: str, fact: Fact, reason: str | None) -> None:
    assert screening_reason(answer, fact) == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('Two of her books are "Red Sky" and "Blue Sea."', None),
        ('Two of her books are "Red Sky" and another.', None),
        ("Two of her books are about the sea.", "off_topic"),
        ('Mira Stone wrote "Gold Hill" first.', "off_topic"),
    ],
)
def test_a_question_for_titles_gets_other_titles(answer: str, reason: str | None) -> None:
    fact = Fact(
        id="c", question='Which books did Mira Stone write besides "Gold Hill"?', answer='She wrote "Old Iron" as well.'
    )
    assert screening_reason(answer, fact) == reason


def test_a_question_for_a_number_gets_a_number() -> None:
    fact = Fact(id="d", question="In which year was Mira Stone born?", answer="Mira Stone was born in 1951.")
    assert screening_reason("Mira Stone was born in 1962.", fact) is None
    assert screening_reason("Mira Stone was born in Oslo.", fact) == "off_topic"
