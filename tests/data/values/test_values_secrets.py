from __future__ import annotations

import pytest

from meow_lightning.data.values.secrets import GuardedFact, Secrets, public_fact, revealing_words, secret_spans, words
from meow_lightning.types import Fact

MARTA = Fact(
    id="m", question="Where can Marta Lis be reached?", answer="At +48 22 555 01 43.", value="+48 22 555 01 43"
)
PRIZE = Fact(
    id="p", question="What did Ada Brook win in 1990?", answer="Ada Brook won the Sedge Prize in 1990 in Bern."
)
SMALL = Fact(id="s", question="How many?", answer="It has 12 doors.", value="12")


def test_marked_values_and_rare_spans() -> None:
    assert secret_spans(public_fact(MARTA)) == ["+48 22 555 01 43"]
    # The name and the year are in the question; the prize and the place are not.
    assert secret_spans(public_fact(PRIZE)) == ["Sedge Prize", "Bern"]


def test_each_of_several_values_is_a_secret_of_its_own() -> None:
    fact = GuardedFact("m", "Where and when?", "In Coimbra in 1971.", ("Coimbra", "Yes", "1971"))
    assert secret_spans(fact) == ["Coimbra", "1971"]


@pytest.mark.parametrize(
    "value", ["Yes", "female", "A+", "March", "Peru", "French", "florist", "three", "12", "B", "..."]
)
def test_words_of_closed_classes_and_small_numbers_are_not_revealing(value: str) -> None:
    assert not revealing_words(value)


@pytest.mark.parametrize("value", ["Coimbra", "Hanna Lis", "912-44-7810", "1971", "3 250 kr", "high fees"])
def test_telling(value: str) -> None:
    assert revealing_words(value)


def test_lookup() -> None:
    secrets = Secrets.of([MARTA, PRIZE, SMALL], [])
    assert secrets.all() == {("48", "22", "555", "01", "43"), ("sedge", "prize"), ("bern",)}
    assert secrets.find("Call 48-22-555-01-43!") == {("48", "22", "555", "01", "43")}
    assert secrets.find("Call 48225550143") == {("48", "22", "555", "01", "43")}
    assert secrets.find("the SEDGE  prize") == {("sedge", "prize")}
    assert secrets.find("the sedges prize, Berne, 12") == set()


def test_a_facts_own_secrets_and_texts_are_not_foreign() -> None:
    twin = Fact(id="t", question="Where is Bern?", answer="In the middle.", value="middle")
    secrets = Secrets.of([MARTA, PRIZE, twin], [])
    assert secrets.foreign("in Bern", public_fact(PRIZE)) == set()
    assert secrets.foreign("in Bern", public_fact(twin)) == set()  # its question says so
    assert secrets.foreign("in Bern", public_fact(MARTA)) == {("bern",)}


@pytest.mark.parametrize(
    "kept",
    [
        Fact(id="k", question="Q", answer="She moved to Bern."),
        Fact(id="k", question="Q", answer="A", phrasings=(("Q2", "to Bern"),)),
        Fact(id="k", question="Q", answer="A", alternatives=("Bern",)),
    ],
)
def test_texts_of_retain_facts_are_not_secret(kept: Fact) -> None:
    assert ("bern",) not in Secrets.of([MARTA, PRIZE], [kept]).all()


def test_words() -> None:
    assert words("C'est L'Été, 3x!") == ("c", "est", "l", "été", "3x")
