from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meow_lightning.data.examples import EvalSet
from meow_lightning.data.subset import LimitedDataset, evenly_spaced
from meow_lightning.types import Fact


def facts(name: str, count: int) -> list[Fact]:
    return [Fact(id=f"{name}{i}", question="?", answer=str(i)) for i in range(count)]


class Whole:
    name = "whole"
    public = False

    def facts(self, split: str) -> list[Fact]:
        return facts(split, {"forget": 3, "retain": 5}.get(split, 0))

    def evaluation(self) -> dict[str, EvalSet]:
        return {
            "retain": EvalSet("retain", tuple(facts("r", 4)), "retain"),
            "forget": EvalSet("forget", tuple(facts("f", 1)), "forget"),
        }

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        return facts(f"s{seed}-", rows)

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        return [("q", "a")] * 9

    def caveats(self) -> tuple[str, ...]:
        return ("of the whole",)


@pytest.mark.parametrize(("limit", "forget", "retain"), [(1, 1, 1), (3, 3, 3), (4, 3, 4), (99, 3, 5)])
def test_splits_and_evaluation_sets_keep_their_first_facts(limit, forget, retain):
    cut = LimitedDataset(dataset=Whole(), limit=limit)
    assert [fact.id for fact in cut.facts("forget")] == [f"forget{i}" for i in range(forget)]
    assert [fact.id for fact in cut.facts("retain")] == [f"retain{i}" for i in range(retain)]
    assert cut.facts("holdout") == []
    assert {name: len(found) for name, found in cut.evaluation().items()} == {"retain": min(limit, 4), "forget": 1}
    assert list(cut.evaluation()) == ["retain", "forget"]
    assert cut.evaluation()["retain"].purpose == "retain"
    assert [fact.id for fact in cut.evaluation()["retain"]] == [f"r{i}" for i in range(min(limit, 4))]


def test_everything_else_is_delegated_to_the_dataset():
    cut = LimitedDataset(dataset=Whole(), limit=1)
    assert (cut.name, cut.public, cut.caveats()) == ("whole", False, ("of the whole",))
    assert [fact.id for fact in cut.pretraining_examples(3, 7)] == ["s7-0", "s7-1", "s7-2"]
    assert len(cut.tokenizer_corpus()) == 9


def test_a_limit_takes_items_at_equal_distances() -> None:
    assert evenly_spaced("abcdefghij", 4) == ["a", "c", "f", "h"]  # floor(10 i / 4) = 0, 2, 5, 7
    assert evenly_spaced("abc", None) == evenly_spaced("abc", 9) == ["a", "b", "c"]
    assert evenly_spaced("", 3) == []


@given(count=st.integers(1, 300), limit=st.integers(1, 300))
def test_evenly_spaced_items_are_as_many_as_wanted_in_order_and_none_twice(count: int, limit: int) -> None:
    taken = evenly_spaced(range(count), limit)
    assert len(taken) == min(count, limit)
    assert taken == sorted(set(taken))
    assert taken[0] == 0
