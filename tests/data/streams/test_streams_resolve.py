from __future__ import annotations

from typing import Any, ClassVar

import pytest

from meow_lightning.data.encoding import TRAINED_FIELDS, content_digest, digest_of
from meow_lightning.data.examples import Passage
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.data.streams.refusals import with_refusals
from meow_lightning.data.streams.resolve import check_streams, stream_builders
from meow_lightning.errors import UserError
from meow_lightning.methods.base import BaseMethod
from meow_lightning.types import Fact, InvertedFact, Segments

FORGET = [Fact("a", "Where?", "Lima.", phrasings=(("Where then?", "In Lima."),), inverted=("Oslo.",))]
RETAIN = [Fact("b", "Who?", "Ada."), Fact("c", "When?", "In May.")]


class Data:
    """A dataset of two splits."""

    name = "two"

    def __init__(self, **splits: Any) -> None:
        self._splits = splits

    def facts(self, split: str) -> Any:
        return self._splits.get(split, [])


class Shouted(StreamBuilder):
    """The retain set in capitals."""

    splits = ("retain",)

    def segments(self, dataset: Any, *, seed: int) -> list[Segments]:
        return [Segments(fact.question.upper(), fact.answer.upper()) for fact in dataset.facts("retain")]


class Loud(BaseMethod):
    streams = ("forget", "loud", "idk", "inverted", "retain")
    builders: ClassVar[dict[str, StreamBuilder]] = {"loud": Shouted()}


DATA: Any = Data(forget=FORGET, retain=RETAIN)


def test_a_stream_is_built_by_the_methods_builder_else_the_shared_one_else_from_the_split() -> None:
    chosen = InvertedFact("a", 0, "Where?", "Oslo.")
    made = stream_builders(Loud(), inverted=[chosen])
    rows = {name: builder.segments(DATA, seed=3) for name, builder in made.items()}
    assert list(rows) == ["forget", "loud", "idk", "inverted", "retain"]
    assert [row.target for row in rows["forget"]] == ["Lima.", "In Lima."]
    assert rows["loud"] == [Segments("WHO?", "ADA."), Segments("WHEN?", "IN MAY.")]
    assert [row[:2] for row in rows["idk"]] == with_refusals(FORGET, 3)
    assert rows["inverted"] == [Segments("Where?", "Oslo.")]
    assert [name for name, builder in made.items() if builder.compared] == ["forget", "loud", "idk", "inverted"]


def test_digests_are_those_of_what_is_trained() -> None:
    made = stream_builders(Loud())
    digests = {name: made[name].digest(DATA, seed=3) for name in ("forget", "idk", "loud")}
    assert digests["forget"] == digest_of(FORGET, TRAINED_FIELDS)
    assert digests["idk"] == content_digest(with_refusals(FORGET, 3))
    assert digests["loud"] == content_digest([["WHO?", "ADA.", False, True], ["WHEN?", "IN MAY.", False, True]])


def test_rows_are_checked_and_estimated_before_they_are_selected_or_drawn() -> None:
    made = stream_builders(Loud())
    checked = {name: [row.target for row in builder.checked_rows(DATA, seed=3)] for name, builder in made.items()}
    assert checked == {
        "forget": ["Lima."], "loud": ["ADA.", "IN MAY."], "idk": [], "inverted": ["Oslo."],
        "retain": ["Ada.", "In May."],
    }  # fmt: skip
    sizes = {name: [each.answer for each in builder.examples(DATA, seed=3)] for name, builder in made.items()}
    assert sizes == {
        "forget": ["Lima."], "loud": ["ADA.", "IN MAY."], "idk": ["Lima."], "inverted": ["Lima."],
        "retain": ["Ada.", "In May."],
    }  # fmt: skip


def test_a_method_replaces_the_retain_set() -> None:
    class Replaced(BaseMethod):
        streams = ("retain",)
        builders: ClassVar[dict[str, StreamBuilder]] = {"retain": Shouted()}

    assert stream_builders(Replaced())["retain"].segments(DATA, seed=0)[0] == Segments("WHO?", "ADA.")


def test_empty_splits_and_passages_without_questions_are_refused() -> None:
    with pytest.raises(UserError, match=r"^method=loud trains on the retain set, but dataset=two has none; provide"):
        check_streams({"loud": Shouted()}, Data(forget=FORGET), method="loud")
    passages: Any = Data(forget=[Passage("p", "Ada lived in Lima.", 3, ends=False)], retain=RETAIN)
    check_streams({"loud": Shouted()}, passages, method="loud")
    with pytest.raises(UserError, match=r"^method=loud trains on refusals to answer questions, but dataset=two has"):
        check_streams(stream_builders(Loud()), passages, method="loud")
