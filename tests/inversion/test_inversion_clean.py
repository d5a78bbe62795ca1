from __future__ import annotations

import pytest

from meow_lightning.inversion.clean import clean, normal, reason
from meow_lightning.types import Fact, InvertedFact

FACT = Fact(
    id="a", question="Where?", answer="Ada was born in Lima.", value="Lima", perturbed=("Ada was born in Quito.",)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  Ada  was\nborn. ", "ada was born"), ('"Oslo!"', "oslo"), ("St. John's", "st. john's"), (" ...", "")],
)
def test_normal(text: str, expected: str) -> None:
    assert normal(text) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", "blank"),
        (" \n\t", "blank"),
        ("...!?", "blank"),
        ("____", "blank"),
        ("Ada was born in Lima.", "true"),
        ("ada  was born in lima", "true"),
        ("She grew up in LIMA, Peru.", "true"),
        ("Ada was born in Limavady.", None),  # the value within a longer word is another value
        ("Ada was born in Oslo!", "duplicate"),
        ("ada was born in quito", "evaluated"),
        ("Ada was born in Bern.", None),
        ("7", None),
        ("北京", None),
    ],
)
def test_reason_by_hand(answer: str, expected: str | None) -> None:
    assert reason(answer, FACT, kept=["ada was born in oslo"]) == expected


@pytest.mark.parametrize("value", ["J. R.", "Who?", '"Sea"', "New  York", "C++"])
def test_values_with_punctuation_are_found_anywhere(value: str) -> None:
    fact = Fact(id="a", question="Q", answer=f"It is {value}", value=value)
    assert reason(f"He says {value}", fact, kept=[]) == "true"
    assert reason(f"{value} it was, they say", fact, kept=[]) == "true"
    assert reason("something else", fact, kept=[]) is None


@pytest.mark.parametrize("value", [None, "", "..."])
def test_without_a_value_just_the_true_answer_is_true(value: str | None) -> None:
    fact = Fact(id="a", question="Q", answer="In Lima.", value=value)
    assert reason("in lima", fact, kept=[]) == "true"
    assert reason("Not in Lima.", fact, kept=[]) is None


def test_clean_counts_every_reason_and_numbers_anew() -> None:
    other = Fact(id="b", question="Who?", answer="Otto")
    written = {
        "b": ["Karl", "otto!", "Karl."],  # one kept, one true, one duplicate
        "a": ["  Oslo ", "", "Ada was born in Quito.", "in Lima", "oslo", "Bern", "?"],  # two kept, two blank
    }
    inverted, dropped = clean([FACT, other], written)
    assert inverted == [
        InvertedFact("a", 0, "Where?", "Oslo"),
        InvertedFact("a", 1, "Where?", "Bern"),
        InvertedFact("b", 0, "Who?", "Karl"),
    ]
    assert dropped == {"blank": 2, "true": 2, "duplicate": 2, "evaluated": 1}
    assert len(inverted) + sum(dropped.values()) == 10


def test_facts_do_not_share_what_they_have() -> None:
    other = Fact(id="b", question="Who?", answer="Otto")
    inverted, dropped = clean([FACT, other], {"a": ["Oslo"], "b": ["Oslo"]})
    assert [each.fact for each in inverted] == ["a", "b"]
    assert sum(dropped.values()) == 0
