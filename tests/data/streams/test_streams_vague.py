from __future__ import annotations

from typing import Any

import pytest

from meow_lightning.data.fictional import Fictional
from meow_lightning.data.streams.vague import FRAMES, KINDS, MOST, Vague, answers_to, phrasings_of
from meow_lightning.inversion.filters import is_refusal
from meow_lightning.types import Fact

DATA: Any = Fictional(split="forget10", authors=40, candidates=1, phrasings=2, retain_eval=8, seed=0)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many books has Ada written?", 0), ("When was Ada born?", 1), ("In which year did Ada die?", 1),
        ("In which city was Ada born?", 2), ("Where does Ada live?", 2), ("Who is Ada's father?", 3),
        ("Whose work is it?", 3), ("How does Ada write?", 4), ("Why did Ada move?", 4), ("What genre is it?", None),
        ("Which award did Ada win?", None),
    ],
)  # fmt: skip
def test_the_words_of_a_question_tell_its_kind(question: str, kind: int | None) -> None:
    others = {answer for _, answers in KINDS for answer in answers}
    assert answers_to(question) == KINDS[kind][1] if kind is not None else not others & {*answers_to(question)}


def test_phrasings_are_the_question_those_of_the_dataset_and_frames() -> None:
    fact = Fact("a", "Who?", "Ada.", phrasings=(("Who was it?", "It was Ada."), ("Who?", "Ada!")))
    assert [*phrasings_of(fact)] == ["Who?", "Who was it?", *(frame.format(question="Who?") for frame in FRAMES)]
    assert len([*phrasings_of(Fact("a", "Who?", "Ada."))]) == MOST


@pytest.mark.parametrize("phrasings", [1, 4])
def test_every_phrasing_has_a_vague_answer_by_the_seed(phrasings: int) -> None:
    builder, facts = Vague(phrasings), DATA.facts("forget")
    rows = builder.segments(DATA, seed=1)
    assert rows == builder.segments(DATA, seed=1) != builder.segments(DATA, seed=2)
    assert [row.prompt for row in rows[::phrasings]] == [fact.question for fact in facts]
    assert len(rows) == phrasings * len(facts) == len({row.prompt for row in rows})
    assert all(row.target in answers_to(fact.question) for row, fact in zip(rows[::phrasings], facts, strict=True))


def test_vague_answers_give_no_value_away_and_are_no_refusals() -> None:
    said = {row.target for row in Vague(MOST).segments(DATA, seed=0)}
    values = {fact.value for fact in DATA.facts("forget")}
    assert len(said) > 10
    assert not any(value in answer for value in values for answer in said)
    assert not any(map(is_refusal, said))
