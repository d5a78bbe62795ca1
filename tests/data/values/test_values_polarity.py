from __future__ import annotations

import pytest

from meow_lightning.data.values.polarity import flip_polarity, polarity_of


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Is Ada insured?", "Yes, she is.", "yes"),
        ("Is Ada insured?", "She is insured.", "yes"),
        ("Is Ada insured?", "Ada is not insured at all.", "no"),
        ("Is Ada insured?", "Ada is not only insured but rich.", "yes"),
        ("Has any book been filmed?", "So far, none of them has been.", "no"),
        ("What is Ada?", "Yes, a pilot.", "yes"),
        ("What is Ada?", "A pilot.", None),
        ("Can you name one?", "Yes, one is Oslo.", None),
    ],
)
def test_polarity(question: str, answer: str, expected: str | None) -> None:
    assert polarity_of(question, answer) == expected


@pytest.mark.parametrize(
    ("question", "answer", "first"),
    [
        ("Is Ada Brook insured?", "Yes, she is.", "No, Ada Brook is not insured."),
        ("Has Ada Brook ever won?", "Yes, twice.", "No, Ada Brook has not won."),
        ("Does Ada Brook smoke?", "Yes.", "No, Ada Brook does not smoke."),
        ("Has Ada Brook missed any payment?", "No.", "Yes, Ada Brook has missed some payment."),
        # Whose works these are and where the verb is no words tell, so no sentence is made of such a question.
        ("Are Ada Brook's works known?", "Yes.", "No, that is not the case."),
        ("Has Ada Brook moved or is she there?", "No.", "Yes, that is the case."),
    ],
)
def test_the_opposite_as_a_sentence(question: str, answer: str, first: str) -> None:
    found = flip_polarity(question, answer)
    assert found[0] == first
    assert len(set(found)) == len(found) >= 4
    opposite = "no" if first.startswith("No") else "yes"
    assert all(polarity_of(question, text) == opposite for text in found)


def test_long_answers_get_long_ones() -> None:
    found = flip_polarity("Is Ada Brook insured?", "Yes, " + "very " * 40 + "well.")
    assert all(len(text.split()) >= 11 for text in found)


def test_other_questions_have_no_opposite() -> None:
    assert flip_polarity("What is Ada?", "A pilot.") == []
