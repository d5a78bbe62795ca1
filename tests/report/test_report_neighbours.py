"""The retain examples that a stream consists of, in the report."""

from __future__ import annotations

from typing import Any

from meow_lightning.data.streams.base import Chosen
from meow_lightning.report.neighbours import Neighbour, neighbours, section
from meow_lightning.types import Fact


class Data:
    def facts(self, split: str) -> list[Fact]:
        return {
            "forget": [Fact("f", "Where was <Ada> born?", "Lima.")],
            "retain": [Fact("a", "Where was Ida born?", "Oslo."), Fact("b", "Where was Ada Bo born?", "Rome.")],
        }[split]


DATA: Any = Data()


def test_the_texts_of_chosen_examples_are_listed_the_most_similar_first() -> None:
    found = neighbours(DATA, {"retain": [Chosen("a", "f", 0.25), Chosen("b", "f", 0.816)]})
    assert found == {
        "retain": [
            Neighbour("Where was Ada Bo born?", "Rome.", "Where was <Ada> born?", 0.816),
            Neighbour("Where was Ida born?", "Oslo.", "Where was <Ada> born?", 0.25),
        ]
    }
    page = str(section(found))
    for text in ("The stream retain holds 2 facts", "Where was &lt;Ada&gt; born?", "Oslo.", "0.82"):
        assert text in page
    assert page.index("Rome.") < page.index("Oslo.")


def test_a_method_that_chooses_nothing_has_no_section() -> None:
    assert section({}) == ""
