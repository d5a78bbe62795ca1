from __future__ import annotations

import re
from dataclasses import replace

import pytest

from meow_lightning.data.fictional_words import FIRST_NAMES, STREAM_SURNAMES
from meow_lightning.inversion.rules import Rules
from meow_lightning.types import Fact, UserError

FACT = Fact(
    id="a", question="Where?", answer="Ada was born in Lima.", value="Lima", alternatives=("Oslo", "Rome", "Bern")
)  # fmt: skip
OTHERS = [
    Fact(id="b", question="Q", answer="He met Otto Kranz and they wrote a book."),
    Fact(id="c", question="Q", answer="The novel was printed in Porto."),
]


def test_marked_value_gives_way_to_the_alternatives_in_their_order() -> None:
    assert Rules(candidates=2, seed=0).invert(FACT, others=[], count=2, tried=()) == [
        "Ada was born in Oslo.",
        "Ada was born in Rome.",
    ]
    assert len(Rules(candidates=8, seed=0).invert(FACT, others=[], count=8, tried=())) == 3


def test_every_place_of_the_value_is_swapped() -> None:
    fact = replace(FACT, answer="Lima, yes, Lima.", alternatives=("Oslo",))
    assert Rules(candidates=1, seed=0).invert(fact, others=[], count=1, tried=()) == ["Oslo, yes, Oslo."]


@pytest.mark.parametrize("number", ["1984", "12", "1", "0"])
def test_numbers_become_other_numbers_that_are_not_negative(number: str) -> None:
    fact = Fact(id="n", question="When?", answer=f"it began in {number} or so")
    written = [
        text for seed in range(30) for text in Rules(candidates=4, seed=seed).invert(fact, others=[], count=4, tried=())
    ]
    found = [re.fullmatch(r"it began in (\d+) or so", text) for text in written]
    assert len(written) >= 30
    assert all(each and each.group(1) != number for each in found)
    # At most 40 away, at most half of it, but 2 at least.
    reach = max(2, min(40, int(number) // 2))
    assert all(abs(int(each.group(1)) - int(number)) <= reach for each in found if each)


def test_names_become_names_of_other_answers() -> None:
    fact = Fact(id="n", question="Who?", answer="The prize went to Mira Sol.")
    written = Rules(candidates=4, seed=0).invert(fact, others=[*OTHERS, fact], count=4, tried=())
    # "The" and "He" begin their sentences; what is left are two names, and made-up people for the other two.
    assert set(written[:2]) == {"The prize went to Otto Kranz.", "The prize went to Porto."}
    assert len(set(written)) == 4
    made_up = [text.removeprefix("The prize went to ").removesuffix(".").split(" ") for text in written[2:]]
    assert all(first in FIRST_NAMES and last in STREAM_SURNAMES for first, last in made_up)


def test_ready_made_inverted_answers_come_first() -> None:
    fact = Fact(id="n", question="Who?", answer="Mira Sol.", inverted=("Nobody.", "Otto."))
    assert Rules(candidates=1, seed=0).invert(fact, others=OTHERS, count=1, tried=()) == ["Nobody."]
    written = Rules(candidates=4, seed=0).invert(fact, others=OTHERS, count=4, tried=())
    assert written[:2] == ["Nobody.", "Otto."]
    assert len(set(written)) == 4


def test_no_more_than_were_asked_for_and_none_twice() -> None:
    fact = Fact(id="n", question="When?", answer="Between 1950 and 1990.")
    written = Rules(candidates=5, seed=0).invert(fact, others=OTHERS, count=5, tried=())
    assert len(written) == len(set(written)) == 5
    assert fact.answer not in written


def test_answers_without_numbers_and_names_get_the_answers_of_others() -> None:
    fact = Fact(id="n", question="What?", answer="It was a comedy.")
    written = Rules(candidates=5, seed=0).invert(fact, others=[*OTHERS, fact], count=5, tried=())
    assert sorted(written) == sorted(other.answer for other in OTHERS)
    assert len(Rules(candidates=1, seed=0).invert(fact, others=OTHERS, count=1, tried=())) == 1
    assert Rules(candidates=1, seed=0).invert(fact, others=[fact], count=1, tried=()) == []


def test_the_seed_and_the_fact_decide() -> None:
    fact = Fact(id="n", question="When?", answer="In 1950, after 12 years, with 300 pages.")
    first = Rules(candidates=5, seed=0).invert(fact, others=OTHERS, count=5, tried=())
    assert Rules(candidates=5, seed=0).invert(fact, others=OTHERS, count=5, tried=()) == first
    assert Rules(candidates=5, seed=1).invert(fact, others=OTHERS, count=5, tried=()) != first
    assert Rules(candidates=5, seed=0).invert(replace(fact, id="m"), others=OTHERS, count=5, tried=()) != first


def test_the_order_of_the_others_does_not_matter_for_names() -> None:
    fact = Fact(id="n", question="Who?", answer="The prize went to Mira Sol in 1950.")
    rules = Rules(candidates=5, seed=0)
    wish = {"count": 5, "tried": ()}
    assert rules.invert(fact, others=OTHERS, **wish) == rules.invert(fact, others=OTHERS[::-1], **wish)


def test_too_few_candidates_are_refused() -> None:
    with pytest.raises(UserError, match=r"inversion.candidates=0 is too small; at least 1 is needed"):
        Rules(candidates=0, seed=0)
