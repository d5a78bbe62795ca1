from __future__ import annotations

from dataclasses import replace

import pytest

from meow_lightning.data.examples import EvalSet, Passage, attributes, benchmark_sets, references
from meow_lightning.types import Fact, Segments

FACT = Fact("a", "Where?", "In Lima.", paraphrase="Lima it was.", perturbed=("Oslo.", "Rome."))
PASSAGE = Passage("p", "Ada lived in Lima.", 3, ends=False)


def test_both_kinds_of_examples_have_segments() -> None:
    assert FACT.segments == Segments("Where?", "In Lima.", raw=False, ends=True)
    assert PASSAGE.segments == Segments("Ada", " lived in Lima.", raw=True, ends=False)
    assert PASSAGE.question + PASSAGE.answer == PASSAGE.text


def test_references_are_true_answer_paraphrase_and_wrong_answers() -> None:
    assert [each.target for each in references(FACT)] == ["In Lima.", "Lima it was.", "Oslo.", "Rome."]
    assert {each.prompt for each in references(FACT)} == {"Where?"}
    assert references(PASSAGE) == [PASSAGE.segments]


def test_other_wordings_count_only_where_they_are_named() -> None:
    reworded = replace(FACT, rewordings=("Which place?",))
    assert attributes(reworded, ()) == attributes(FACT, ())
    assert attributes(reworded, ("id", "rewordings")) == ["a", ("Which place?",)]


def test_an_evaluation_set_is_the_sequence_of_its_examples() -> None:
    found = EvalSet("forget", (FACT, PASSAGE), "forget")
    assert list(found) == [found[0], found[1]] == [FACT, PASSAGE]
    assert (len(found), found[1:], found.scoring) == (2, (PASSAGE,), "free")


def test_the_benchmark_names_what_its_sets_are_for() -> None:
    names = ("forget", "retain", "real_authors", "world_facts", "holdout")
    made = benchmark_sets({name: [FACT] for name in names})
    assert [(name, each.purpose, each.scoring) for name, each in made.items()] == [
        ("forget", "forget", "free"), ("retain", "retain", "free"), ("real_authors", "utility", "options"),
        ("world_facts", "utility", "options"), ("holdout", "holdout", "free"),
    ]  # fmt: skip
    with pytest.raises(KeyError):
        benchmark_sets({"zoo": [FACT]})
