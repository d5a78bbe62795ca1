"""The facts of every request, and the dataset during one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meow_lightning.data.examples import EvalSet
from meow_lightning.data.fictional import Fictional
from meow_lightning.data.jsonl import Jsonl
from meow_lightning.data.requests import RequestDataset, divide, during_request, groups_of
from meow_lightning.data.subset import LimitedDataset
from meow_lightning.errors import UserError
from meow_lightning.types import Fact

AUTHORS = Fictional(split="forget10", authors=40, candidates=2, phrasings=1, retain_eval=4, seed=0)


class Plain:
    name, public = "plain", True

    def facts(self, split: str) -> list[Fact]:
        return [Fact(f"{split}{i}", "?", str(i)) for i in range({"forget": 7, "retain": 2}.get(split, 0))]

    def evaluation(self) -> dict[str, EvalSet]:
        return {
            "forget": EvalSet("forget", tuple(self.facts("forget")), "forget"),
            "retain": EvalSet("retain", tuple(self.facts("retain")), "retain"),
        }

    def pretraining_examples(self, rows: int, seed: int) -> list[Fact]:
        return [Fact(f"s{seed}", "?", "!")] * rows

    def tokenizer_corpus(self) -> list[tuple[str, str]]:
        return [("q", "a")]

    def caveats(self) -> tuple[str, ...]:
        return ("plain",)


def ids(*numbers: int) -> tuple[str, ...]:
    return tuple(f"forget{number}" for number in numbers)


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("order", [None, 0, 5])
def test_every_fact_is_in_one_request_and_sizes_differ_by_at_most_one(count: int, order: int | None) -> None:
    requests = divide(Plain(), requests=count, group_by=None, order=order)
    sizes = [len(each.facts) for each in requests]
    assert len(requests) == count
    assert max(sizes) - min(sizes) <= 1
    assert sorted(fact for each in requests for fact in each.facts) == list(ids(*range(7)))
    assert all(each.facts == tuple(sorted(each.facts)) and each.groups == () for each in requests)


def test_the_order_is_that_of_the_dataset_or_of_a_seed() -> None:
    assert [each.facts for each in divide(Plain(), requests=2, group_by=None, order=None)] == [
        ids(0, 1, 2), ids(3, 4, 5, 6),
    ]  # fmt: skip
    drawn = [divide(Plain(), requests=2, group_by=None, order=seed) for seed in range(4)]
    assert drawn[0] == divide(Plain(), requests=2, group_by=None, order=0)
    assert len({each[0].facts for each in drawn}) > 1


def test_groups_stay_together_one_per_request_or_several() -> None:
    each = divide(AUTHORS, requests=None, group_by="author", order=None)
    assert [request.groups for request in each] == [(f"author{n:03d}",) for n in range(36, 40)]
    assert all({fact.split("/")[0] for fact in request.facts} == set(request.groups) for request in each)
    pairs = divide(AUTHORS, requests=2, group_by="author", order=None)
    assert [request.groups for request in pairs] == [("author036", "author037"), ("author038", "author039")]
    limited = divide(LimitedDataset(dataset=AUTHORS, limit=9), requests=None, group_by="author", order=None)
    assert [len(request.facts) for request in limited] == [8, 1]


def test_a_field_of_ones_own_facts_names_their_group(tmp_path: Path) -> None:
    def facts(*groups: str) -> Jsonl:
        file = tmp_path / "facts.jsonl"
        entries = [{"question": f"Who is {n}?", "answer": f"Person {n}."} for n in range(len(groups))]
        lines = [
            json.dumps({**entry, **({"group": group} if group else {})})
            for entry, group in zip(entries, groups, strict=True)
        ]
        file.write_text("\n".join(lines))
        return Jsonl(forget=str(file), retain=None, real_world=False, perturb=0, retain_eval=1, seed=0)

    found = divide(facts("b", "a", "b"), requests=None, group_by="group", order=None)
    assert [(each.groups, len(each.facts)) for each in found] == [(("b",), 2), (("a",), 1)]
    with pytest.raises(UserError, match=r"needs a group of every fact to forget, but fact forget/0003 has none"):
        divide(facts("b", "a", ""), requests=None, group_by="group", order=None)
    assert groups_of(facts("", "")) == {}


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        (Plain(), {"requests": 8}, r"protocol\.requests=8 is invalid: .* 7, the number of facts.*Did you mean 7\?"),
        (Plain(), {"group_by": "author"}, r"protocol\.group_by=author is invalid: expected null"),
        (AUTHORS, {"group_by": "autor"}, r"protocol\.group_by=autor is invalid: expected author\. Did you mean author"),
        (AUTHORS, {"group_by": "author", "requests": 5}, r"protocol\.requests=5 .* 4, the number of groups"),
        (LimitedDataset(dataset=Plain(), limit=1), {"requests": 2}, r"protocol=sequential .* at least two facts"),
    ],
)
def test_what_cannot_be_divided_so_is_named(dataset: Plain, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        divide(dataset, **{"requests": None, "group_by": None, "order": None, **options})


def test_during_a_request_later_facts_are_retained_and_earlier_ones_are_in_neither_split() -> None:
    now = RequestDataset(dataset=Plain(), forget=ids(2, 3), later=ids(4, 5, 6))
    assert tuple(fact.id for fact in now.facts("forget")) == ids(2, 3)
    assert [fact.id for fact in now.facts("retain")] == ["retain0", "retain1", *ids(4, 5, 6)]
    assert tuple(fact.id for fact in now.evaluation()["forget"]) == ids(2, 3)
    assert [fact.id for fact in now.evaluation()["retain"]] == ["retain0", "retain1"]
    assert (now.name, now.public, now.caveats(), now.tokenizer_corpus()) == ("plain", True, ("plain",), [("q", "a")])
    assert len(now.pretraining_examples(3, 1)) == 3
    assert now.facts("holdout") == []


def test_the_inputs_of_a_stage_say_whether_there_is_a_request() -> None:
    plain = Plain()
    assert during_request(plain, {}) is plain
    asked = during_request(plain, {"request": {"forget": ["forget1"], "later": []}})
    assert [fact.id for fact in asked.facts("forget")] == ["forget1"]
