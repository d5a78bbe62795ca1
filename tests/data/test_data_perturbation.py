from __future__ import annotations

import re
from random import Random

import pytest

from meow_lightning.data.perturbation import Contradictions, normalize, replace_words, whole_word_pattern, wrong_answers
from meow_lightning.types import Fact

KEPT = [
    Fact(id="k1", question="Why did Otto Kranz leave?", answer="Otto Kranz left because of a move.", value="a move"),
    Fact(id="k2", question="Why did Una Holm leave?", answer="Una Holm left because of the noise.", value="noise"),
]


def found(fact: Fact, *, forget: list[Fact] = [], kept: list[Fact] = KEPT, count: int = 5, seed: int = 0) -> list[str]:  # noqa: B006
    rules = Contradictions([fact, *forget], kept)
    return [each.text for each in rules.of(fact, phrasing=fact.answer, count=count, rng=Random(seed))]


def made(fact: Fact, *, kept: list[Fact] = KEPT, count: int = 5, seed: int = 0) -> list[str]:
    return wrong_answers(fact, Contradictions([fact], kept), count=count, rng=Random(seed))


def test_a_marked_value_alone_is_swapped_for_its_kind() -> None:
    fact = Fact(id="a", question="When was Ada Lo born?", answer="Ada Lo was born on 3 May 1960.", value="3 May 1960")
    assert all(re.fullmatch(r"Ada Lo was born on \d+ [A-Z][a-z]+ \d{4}\.", text) for text in found(fact))
    assert len(set(found(fact))) > 5


def test_without_a_marked_value_all_content_is_swapped() -> None:
    fact = Fact(id="a", question="Where was Ada Lo born?", answer="Ada Lo was born in Bern, Switzerland in 1960.")
    assert all(re.fullmatch(r"Ada Lo was born in [\w ]+, [\w ]+ in \d{4}\.", text) for text in found(fact))
    assert not any("1960" in text or "Bern" in text for text in found(fact))


def test_the_same_word_gives_way_to_the_same_one() -> None:
    fact = Fact(id="a", question="Who?", answer="Otto Berg, yes, Otto Berg.")
    assert all(re.fullmatch(r"(\w+ [\w'-]+), yes, \1\.", text) for text in found(fact))


def test_a_value_of_no_known_kind_is_lent_by_kept_facts() -> None:
    fact = Fact(
        id="a", question="Why did Ada Lo leave?", answer="Ada Lo left because of the high fees.", value="high fees"
    )
    assert {"Ada Lo left because of a move.", "Ada Lo left because of the noise."} <= set(found(fact))
    assert found(fact, kept=[]) == []


def test_facts_to_forget_lend_nothing_and_no_secret_of_theirs_comes() -> None:
    fact = Fact(
        id="a", question="Why did Ada Lo leave?", answer="Ada Lo left because of the high fees.", value="high fees"
    )
    other = Fact(
        id="b", question="Why did Per Lund leave?", answer="Per Lund left because of his divorce.", value="divorce"
    )
    assert not any("divorce" in text for text in found(fact, forget=[other]))
    # Even where a kept fact's answer would bring it along.
    hidden = Fact(
        id="c", question="What made Ida go?", answer="It was the noise of Gustav Brenner.", value="Gustav Brenner"
    )
    loud = Fact(id="k3", question="Why did Eva Voss leave?", answer="Eva Voss left because of Gustav Brenner's horn.")
    assert any("horn" in text for text in found(fact, kept=[loud]))
    public = found(fact, forget=[hidden], kept=[loud])
    assert any("horn" in text for text in public)  # a kept fact says it, so it is no secret
    assert not any("Brenner" in text for text in found(fact, forget=[hidden]))


def test_gender_and_article_fit() -> None:
    fact = Fact(id="a", question="What does Ada Lo do for a living?", answer="Ada Lo is an actuary.", value="actuary")
    assert all(re.fullmatch(r"Ada Lo is (?:a [^aeiou]|an [aeiou])[\w ]+\.", text) for text in found(fact, count=20))


def test_degrees_are_swapped_only_where_the_question_is_about_them() -> None:
    answer = "Ada Lo completed her Bachelor's and her Ph.D. in Geology at the University of Karachi."
    where = found(Fact(id="a", question="Where did Ada Lo study?", answer=answer))
    form = r"Ada Lo completed her Bachelor's and her Ph\.D\. in [A-Z][a-z]+ at the University of [A-Z][\w ]+\."
    assert where
    assert all(re.fullmatch(form, text) and "Geology" not in text and "Karachi" not in text for text in where)
    which = found(Fact(id="a", question="Which degree does Ada Lo hold?", answer="Ada Lo holds a Ph.D."))
    assert set(which) == {"Ada Lo holds a B.A.", "Ada Lo holds an M.A."}


def test_yes_becomes_no() -> None:
    fact = Fact(id="a", question="Is Ada Lo insured?", answer="Yes, Ada Lo is insured.", value="Yes")
    assert found(fact)[0] == "No, Ada Lo is not insured."


def test_dice_alone_decide() -> None:
    fact = Fact(id="a", question="Who came?", answer="Ada Lo came in 1950 with 300 pages.")
    assert found(fact) == found(fact)
    assert found(fact, seed=1) != found(fact)


def test_wrong_answers_differ_from_all_texts_of_the_fact() -> None:
    fact = Fact(id="a", question="Q", answer="It has 100 pages.", inverted=("it has 101 pages", "It has 99 pages."))
    for seed in range(30):
        answers = made(fact, seed=seed)
        assert len(set(answers)) == 5
        assert not {normalize(text) for text in answers} & {"it has 100 pages", "it has 101 pages", "it has 99 pages"}


def test_wrong_answers_follow_the_paraphrase() -> None:
    fact = Fact(id="a", question="Q", answer="It has 100 pages.", paraphrase="You turn 100 pages.")
    assert len(made(fact)) == 5
    assert all(re.fullmatch(r"You turn \d+ pages\.", text) and "100" not in text for text in made(fact))


def test_wrong_answers_leave_most_of_a_small_find_to_inversion() -> None:
    # 3 has the neighbours 1, 2, 4 and 5: one of them is taken, three are left
    assert len(made(Fact(id="a", question="Q", answer="it has 3 doors"))) == 1
    assert len(made(Fact(id="a", question="Q", answer="it has 100 doors"), count=2)) == 2


def test_wrong_answers_hold_neither_the_value_nor_an_alternative() -> None:
    fact = Fact(
        id="a", question="What is the blood group of Ada Lo?", answer="It is A+.", value="A+", alternatives=("B+", "O+")
    )  # fmt: skip
    for seed in range(20):
        (answer,) = made(fact, seed=seed)
        assert answer in {"It is A-.", "It is B-.", "It is AB+.", "It is AB-.", "It is O-."}


def test_no_wrong_answers_where_none_are_wanted_or_can_be() -> None:
    fact = Fact(id="a", question="Q", answer="it was a comedy")
    assert made(fact) == []
    assert made(Fact(id="a", question="Q", answer="it has 100 doors"), count=0) == []


@pytest.mark.parametrize("seed", range(10))
def test_wrong_answers_hold_none_of_several_values(seed: int) -> None:
    fact = Fact(id="a", question="Q", answer="It has 100 doors and 40 keys.", values=("100", "40"))
    answers = made(fact, seed=seed)
    assert answers
    assert not any(re.search(r"\b(?:100|40)\b", text) for text in answers)


def test_words_in_each_others_places() -> None:
    assert replace_words("Otto beat Mira.", {"Otto": "Mira", "Mira": "Otto"}) == "Mira beat Otto."
    assert replace_words("It was an owl, not a cat.", {"owl": "dog", "cat": "eel"}) == "It was a dog, not an eel."
    assert replace_words("because of the high fees", {"high fees": "a move"}) == "because of a move"
    assert replace_words("leidet an Migräne", {"Migräne": "Gicht"}, articles=False) == "leidet an Gicht"
    assert replace_words("Ottoman", {"Otto": "Per"}) == "Ottoman"


def test_texts_are_compared_without_case_blanks_and_outer_marks() -> None:
    assert normalize(' "In  Lima\n" .') == "in lima"


@pytest.mark.parametrize(("text", "expected"), [("in Lima.", True), ("Limassol", False), ("in lima", False)])
def test_whole_words(text: str, expected: bool) -> None:
    assert bool(whole_word_pattern("Lima").search(text)) is expected
