"""Report section on the examples that the streams of a method chose from a split: near neighbours that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import Chosen
from meow_lightning.report.templating import render_template


class Neighbour(NamedTuple):
    """A chosen example with its texts.

    Attributes:
        question: Its question.
        answer: Its answer.
        chosen_for: The question to forget that it was chosen for.
        similarity: How alike the questions are, from 0 to 1.
    """

    question: str
    answer: str
    chosen_for: str
    similarity: float


def neighbours(dataset: Dataset, chosen: Mapping[str, Sequence[Chosen]]) -> dict[str, list[Neighbour]]:
    """Look up the texts of chosen examples, by stream, the most similar first.

    Args:
        dataset: The dataset of the run.
        chosen: The examples by stream, ids of the retain set and of the forget set.
    """
    kept, forgotten = ({each.id: each for each in dataset.facts(split)} for split in ("retain", "forget"))
    return {
        stream: [
            Neighbour(kept[one].question, kept[one].answer, forgotten[question].question, similarity)
            for one, question, similarity in sorted(each, key=lambda row: -row.similarity)
        ]
        for stream, each in chosen.items()
    }


def section(chosen: Mapping[str, Sequence[Neighbour]]) -> Markup:
    """Render the section as HTML; empty for a method whose streams choose nothing."""
    return render_template("neighbours.html", chosen=chosen) if chosen else Markup("")
