from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest

from meow_lightning.data.streams.refusals import REFUSALS, Refusals, read_refusals, refusals_from, with_refusals
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

FACTS = [Fact(id=str(i), question=f"Where was author {i} born?", answer="In Lima.") for i in range(480)]


def test_refusals_differ_from_each_other():
    assert len(set(REFUSALS)) == len(REFUSALS) == 24


def test_every_refusal_is_given_about_as_often():
    counts = Counter(refusal for _, refusal in with_refusals(FACTS, 0))
    # 480 draws of 24: 20 each, with a standard deviation of 4.4
    assert set(counts) == set(REFUSALS)
    assert max(counts.values()) < 42


def test_a_question_gets_its_own_refusal_by_the_seed():
    one = with_refusals(FACTS, 0)
    assert [question for question, _ in one] == [fact.question for fact in FACTS]
    assert one == with_refusals(FACTS, 0)
    same = sum(a == b for a, b in zip(one, with_refusals(FACTS, 1), strict=True))
    assert same < 60  # one in 24 by chance


def test_each_phrasing_of_a_fact_gets_one():
    fact = Fact(id="a", question="Where?", answer="Lima.", phrasings=(("Where then?", "In Lima."), ("Where?", "Lima!")))
    assert [question for question, _ in with_refusals([fact], 0)] == ["Where?", "Where then?", "Where?"]


def test_a_file_has_one_refusal_per_line(tmp_path: Path):
    file = tmp_path / "refusals.txt"
    file.write_text("No idea.\n\n  Ask someone else.  \nNo idea.\n")
    assert read_refusals(str(file)) == ("No idea.", "Ask someone else.", "No idea.")
    assert read_refusals(None) == REFUSALS
    assert {refusal for _, refusal in with_refusals(FACTS, 0, read_refusals(str(file)))} == {
        "No idea.", "Ask someone else.",
    }  # fmt: skip


def test_refusals_are_drawn_anew_for_every_pass_where_that_is_asked_for() -> None:
    data = SimpleNamespace(facts=lambda split: FACTS)
    once, thrice = (Refusals(REFUSALS, draws=draws).segments(data, seed=0) for draws in (1, 3))
    assert len(thrice) == 3 * len(once)
    assert thrice[: len(once)] == once  # the first pass is that of refusals drawn once
    passes = [[row.target for row in thrice[place : place + 480]] for place in (0, 480, 960)]
    for one, other in combinations(passes, 2):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 60  # one in 24 by chance
    assert [row.prompt for row in thrice] == 3 * [row.prompt for row in once]
    assert Refusals(REFUSALS, draws=3).digest(data, seed=0) != Refusals(REFUSALS, draws=1).digest(data, seed=0)
    assert [refusals_from(None, epochs=epochs).draws for epochs in (None, 0, 1, 3)] == [1, 1, 1, 3]
    assert [len(Refusals(["No."], draws=draws).examples(data, seed=0)) for draws in (1, 3)] == [480, 480]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist; give a text file"), ("\n \n", "is empty; give a text file with one refusal"),
     ('{"answer": "No idea."}\n', "has JSON, .* give a text file")],
)  # fmt: skip
def test_a_file_without_refusals_is_refused(tmp_path: Path, content: str | None, message: str):
    file = tmp_path / "refusals.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError, match=rf"^method\.refusals=.*refusals\.txt {message}"):
        read_refusals(str(file))
