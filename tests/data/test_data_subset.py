from __future__ import annotations

import pytest

from meow_lightning.data.examples import EvalSet
from meow_lightning.data.subset import LimitedDataset
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
