from __future__ import annotations

import re
from dataclasses import replace

import pytest

from meow_lightning.data.perturbation import Contradictions
from meow_lightning.data.values.generators import first_names
from meow_lightning.errors import UserError
from meow_lightning.inversion.rules import Rules
from meow_lightning.types import Fact

FACT = Fact(
    id="a", question="Where?", answer="Ada was born in Lima.", value="Lima", alternatives=("Oslo", "Rome", "Bern")
)  # fmt: skip
KEPT = [
    Fact(id="b", question="Why did Otto Kranz leave?", answer="Otto Kranz left because of a move.", value="a move"),
    Fact(id="c", question="Why did Una Holm leave?", answer="Una Holm left because of noise.", value="noise"),
]


def inverted(
    fact: Fact, *, count: int, seed: int = 0, previous_answers: tuple[str, ...] = (), kept: list[Fact] = KEPT
) -> list[str]:
    return Rules(candidates=count, seed=seed).invert(
        fact, Contradictions([fact], kept), count=count, previous_answers=previous_answers
    )


def test_marked_value_gives_way_to_the_alternatives_in_their_order() -> None:
    assert inverted(FACT, count=2) == ["Ada was born in Oslo.", "Ada was born in Rome."]
    # What is wanted beyond them is made, of the same kind.
    more = inverted(FACT, count=8)
    assert more[:3] == ["Ada was born in Oslo.", "Ada was born in Rome.", "Ada was born in Bern."]
    assert len(set(more)) == 8
    assert all(re.fullmatch(r"Ada was born in [A-Z][\w ]+\.", text) for text in more)


def test_every_place_of_the_value_is_swapped() -> None:
    fact = replace(FACT, answer="Lima, yes, Lima.", alternatives=("Oslo",))
    assert inverted(fact, count=1) == ["Oslo, yes, Oslo."]


@pytest.mark.parametrize("number", ["1984", "12", "1", "0"])
def test_numbers_become_other_numbers_that_are_not_negative(number: str) -> None:
    fact = Fact(id="n", question="How many?", answer=f"it has {number} doors or so")
    written = [text for seed in range(30) for text in inverted(fact, count=4, seed=seed)]
    found = [re.fullmatch(r"it has (\d+) doors or so", text) for text in written]
    assert len(written) >= 30
    assert all(each and each.group(1) != number for each in found)
    if number != "1984":  # that is taken for a year
        # At most 40 away, at most half of it, but 2 at least.
        reach = max(2, min(40, int(number) // 2))
        assert all(abs(int(each.group(1)) - int(number)) <= reach for each in found if each)


def test_ready_made_inverted_answers_come_first() -> None:
    fact = Fact(id="n", question="Who?", answer="Mira Sol.", inverted=("Nobody.", "Otto."))
    assert inverted(fact, count=1) == ["Nobody."]
    written = inverted(fact, count=4)
    assert written[:2] == ["Nobody.", "Otto."]
    assert len(set(written)) == 4


def test_at_most_the_requested_number_and_none_twice() -> None:
    fact = Fact(id="n", question="When?", answer="Between 1950 and 1990.")
    written = inverted(fact, count=5)
    assert len(written) == len(set(written)) == 5
    assert fact.answer not in written


def test_requested_again_they_write_others() -> None:
    fact = Fact(id="n", question="When?", answer="In 1950.")
    first = tuple(inverted(fact, count=4))
    again = inverted(fact, count=4, previous_answers=first)
    assert len(again) == 4
    assert not {*first} & {*again}


def test_a_value_of_no_known_kind_is_lent_by_kept_facts_alone() -> None:
    fact = Fact(id="n", question="Why did Ada Lo leave?", answer="Ada Lo left because of high fees.", value="high fees")
    assert inverted(fact, count=5)[:2] == ["Ada Lo left because of a move.", "Ada Lo left because of noise."]
    assert inverted(fact, count=5, kept=[]) == []


def test_last_resorts_are_taken_only_where_there_is_little_else() -> None:
    fact = Fact(
        id="n", question="How did critics like it?",
        answer="They praised its slow and careful blend of Welsh and Irish lore, its plot and its many odd folk.",
    )  # fmt: skip
    assert len(inverted(fact, count=8, kept=[])) == 4


def test_the_seed_and_the_fact_decide() -> None:
    fact = Fact(id="n", question="When?", answer="In 1950, after 12 years, with 300 pages.")
    first = inverted(fact, count=5)
    assert inverted(fact, count=5) == first
    assert inverted(fact, count=5, seed=1) != first
    assert inverted(replace(fact, id="m"), count=5) != first


def test_the_order_of_the_kept_facts_does_not_matter_for_names() -> None:
    fact = Fact(id="n", question="Who?", answer="The prize went to Mira Sol in 1950.")
    assert inverted(fact, count=5) == inverted(fact, count=5, kept=KEPT[::-1])


def test_too_few_candidates_are_refused() -> None:
    with pytest.raises(UserError, match=r"inversion.candidates=0 is invalid: expected a number from 1 to "):
        Rules(candidates=0, seed=0)


def first_names_in(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if word in first_names()}


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What is the code word?", "The code word is Mandelbrot.", "Mandelbrot"),
        ("What is the name of Ada's yacht?", "Ada's yacht is called Seeadler.", "Seeadler"),
        ("Wo arbeitet Bernd Hauser?", "Bernd Hauser arbeitet bei der Sparkasse Görlitz.", "Sparkasse Görlitz"),
        ("Welches Tier hat Holger Pape?", "Holger Pape hat einen Dackel namens Waldi.", "Waldi"),
        ("Welches Tier hat Holger Pape?", "Holger Pape hat einen Dackel namens Waldi.", None),
    ],
)
def test_capitalized_words_of_unknown_kind_do_not_become_persons(question: str, answer: str, value: str | None) -> None:
    fact = Fact(id="x", question=question, answer=answer, value=value)
    written = [text for seed in range(5) for text in inverted(fact, count=4, seed=seed, kept=[])]
    assert len(written) >= 15
    before, _, after = answer.partition(value or "Dackel namens Waldi")
    for text in written:
        assert text.startswith(before)
        assert text.endswith(after)
        assert not first_names_in(text) - first_names_in(answer)


def test_a_value_of_unknown_kind_is_borrowed_before_one_is_invented() -> None:
    fact = Fact(id="x", question="What is the code word of Ada Brook?", answer="It is Mandelbrot.", value="Mandelbrot")
    kept = [
        Fact(id="k", question="What is the code word of Otto Kranz?", answer="It is Semaphor.", value="Semaphor"),
    ]  # fmt: skip
    assert inverted(fact, count=2, kept=kept)[0] == "It is Semaphor."


@pytest.mark.parametrize(
    ("question", "answer", "value", "pattern"),
    [
        ("Wo wohnt Katrin Vogel?", "Katrin Vogel wohnt in Zwickau.", "Zwickau", r"[A-Z][\w ]+"),
        ("Wann wurde Heike Brandt geboren?", "Heike Brandt wurde am 3. März 1985 geboren.", "3. März 1985",
         r"\d+\. (?:Januar|Februar|März|April|Mai|Ju[nl]i|August|(?:Sept|Nov|Dez)ember|Oktober) \d{4}"),
        ("Wie viel verdient Uwe Lindner?", "Uwe Lindner verdient 74.500 Euro im Jahr.", "74.500 Euro",
         r"\d{2,3}\.\d{3} Euro"),
        ("Wie heißt die Frau von Jens Krug?", "Sie heißt Annegret Behrens.", "Annegret Behrens", r"\w[\w-]+ \w[\w-]+"),
        ("Wie ist die Nummer von Petra Nolte?", "Sie ist unter 0351 4827163 erreichbar.", "0351 4827163",
         r"0\d{3} \d{7}"),
        ("In welcher Straße wohnt Dirk Wieland?", "Er wohnt in der Birkenstraße 12.", "Birkenstraße 12",
         r"[\w -]+straße \d+"),
    ],
)  # fmt: skip
def test_german_values_keep_their_kind(question: str, answer: str, value: str, pattern: str) -> None:
    fact = Fact(id="x", question=question, answer=answer, value=value)
    written = inverted(fact, count=4, kept=[])
    assert len(written) == 4
    whole = re.escape(answer).replace(re.escape(value), pattern)
    assert all(re.fullmatch(whole, text) for text in written), written


@pytest.mark.parametrize(
    ("question", "answer", "value", "opposite"),
    [
        ("Is Ada Brook married?", "Yes, Ada Brook is married.", "Yes", "No, "),
        ("Has Ada Brook a dog?", "No, Ada Brook has none.", "No", "Yes, "),
        ("Ist Monika Ebert verheiratet?", "Ja, Monika Ebert ist verheiratet.", "Ja", "Nein, "),
        ("Hat Monika Ebert einen Hund?", "Nein, sie hat keinen Hund.", "Nein", "Ja, "),
        ("Est-ce que Luc est marié ?", "Oui, Luc est marié.", "Oui", "Non, "),
        ("¿Está casada Luz?", "No, Luz no está casada con Juan.", "No", "Sí, "),
    ],
)
def test_yes_and_no_become_their_opposite(question: str, answer: str, value: str, opposite: str) -> None:
    written = inverted(Fact(id="x", question=question, answer=answer, value=value), count=4, kept=[])
    assert len(written) == 4
    assert all(text.startswith(opposite) for text in written)
