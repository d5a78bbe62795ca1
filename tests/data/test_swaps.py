from __future__ import annotations

import re
from random import Random

import pytest

from meow_lightning.data.swaps import normal, swapped_answers, whole, wrong_answers
from meow_lightning.types import Fact

OTHERS = ["He met Otto Kranz and they wrote a book.", "The novel was printed in Porto."]
PLAIN = [f"it was a {word}" for word in ("farce", "fable", "novel", "sonnet", "ballad", "satire", "saga", "myth")]


def made(fact: Fact, borrowed: list[str], *, count: int = 5, seed: int = 0) -> list[str]:
    return wrong_answers(fact, borrowed, count=count, dice=Random(seed))


def test_numbers_become_others_within_reach() -> None:
    found = [text for seed in range(20) for text in swapped_answers("in 12 days", [], count=4, dice=Random(seed))]
    numbers = {int(re.fullmatch(r"in (\d+) days", text).group(1)) for text in found}  # type: ignore[union-attr]
    assert numbers == {6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18}  # at most half of 12 away


def test_names_become_names_of_the_borrowed() -> None:
    found = swapped_answers("The prize went to Mira Sol.", OTHERS, count=4, dice=Random(0))
    assert set(found) == {"The prize went to Otto Kranz.", "The prize went to Porto."}


def test_whole_answers_are_borrowed_where_there_is_nothing_to_swap() -> None:
    assert sorted(swapped_answers("it was a comedy", OTHERS, count=9, dice=Random(0))) == sorted(OTHERS)
    assert swapped_answers("it was a comedy", [], count=9, dice=Random(0)) == []
    # A name needs another name to give way to.
    assert swapped_answers("it is by Mira Sol", PLAIN[:1], count=9, dice=Random(0)) == PLAIN[:1]


def test_dice_alone_decide() -> None:
    first = swapped_answers("In 1950, after 12 years.", OTHERS, count=5, dice=Random(1))
    assert swapped_answers("In 1950, after 12 years.", OTHERS, count=5, dice=Random(1)) == first
    assert swapped_answers("In 1950, after 12 years.", OTHERS, count=5, dice=Random(2)) != first


def test_wrong_answers_are_none_of_what_the_fact_says() -> None:
    fact = Fact(id="a", question="Q", answer="It has 100 pages.", inverted=("it has 101 pages", "It has 99 pages."))
    for seed in range(30):
        found = made(fact, [], seed=seed)
        assert len(set(found)) == 5
        assert not {normal(text) for text in found} & {"it has 100 pages", "it has 101 pages", "it has 99 pages"}


def test_wrong_answers_follow_the_paraphrase() -> None:
    fact = Fact(id="a", question="Q", answer="It has 100 pages.", paraphrase="You turn 100 pages.")
    assert len(made(fact, [])) == 5
    assert all(re.fullmatch(r"You turn \d+ pages\.", text) and "100" not in text for text in made(fact, []))


def test_wrong_answers_leave_most_of_a_small_find_to_inversion() -> None:
    # 3 has the neighbours 1, 2, 4 and 5: one of them is taken, three are left
    assert len(made(Fact(id="a", question="Q", answer="it has 3 doors"), [])) == 1
    assert len(made(Fact(id="a", question="Q", answer="it was a comedy"), PLAIN)) == 2
    assert len(made(Fact(id="a", question="Q", answer="it was a comedy"), PLAIN[:1])) == 1
    assert len(made(Fact(id="a", question="Q", answer="it has 100 doors"), [], count=2)) == 2


def test_wrong_answers_hold_neither_the_value_nor_an_alternative() -> None:
    fact = Fact(id="a", question="Q", answer="a comedy of 1950", value="comedy", alternatives=("farce", "1950"))
    # Swapping the year leaves the comedy, so answers are borrowed, but not those that inversion trains on.
    assert made(fact, [fact.answer, "it was a Farce!", "A comedy.", "it was a saga"]) == ["it was a saga"]


def test_wrong_answers_never_borrow_the_true_answer_or_its_names() -> None:
    fact = Fact(id="a", question="Q", answer="Ada Lo met Mira Sol.", paraphrase="there she met Mira Sol")
    assert made(fact, [fact.answer]) == []
    assert made(fact, [fact.answer, "we saw Otto Kranz"]) == ["there she met Otto Kranz"]


def test_no_wrong_answers_where_none_are_wanted_or_can_be() -> None:
    fact = Fact(id="a", question="Q", answer="it was a comedy")
    assert made(fact, PLAIN, count=0) == []
    assert made(fact, []) == []
    assert made(fact, ["It was a comedy!", "..."]) == []


def test_texts_are_compared_without_case_blanks_and_outer_marks() -> None:
    assert normal(' "In  Lima\n" .') == "in lima"


@pytest.mark.parametrize(("text", "found"), [("in Lima.", True), ("Limassol", False), ("in lima", False)])
def test_whole_words(text: str, found: bool) -> None:
    assert bool(whole("Lima").search(text)) is found
