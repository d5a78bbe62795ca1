"""What asking a model costs, as a plan states it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import options
from helpers.known import CITIES, known_words

from meow_lightning.pipeline import build
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources.requirements import InferenceWork
from meow_lightning.stages.probe import Probe


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    return (*known_words(tmp_path), "limit=2")


def work_of(*words: str) -> InferenceWork:
    chosen = options(*words, small=())
    made = build.graph(chosen)
    planner = Planner(chosen.plain(), dataset=made.dataset, streams=made.streams, gpu=False, available=10**12)
    assert made.probe is not None
    assert Probe().disk(made.probe, planner) > 0
    return Probe().describe_work(made.probe, planner)


def test_every_question_is_answered_whatever_the_limit(words) -> None:
    work = work_of(*words, "dataset.max_new_tokens=20")
    assert (work.items, work.scored, work.rows) == (len(CITIES), len(CITIES) * 20, 0)


def test_options_are_scored_besides(words) -> None:
    plain, scored = work_of(*words), work_of(*words, "dataset.known_by=options")
    assert scored.scored > plain.scored
    assert (plain.load.texts, scored.load.texts, scored.rows > 0) == (0, len(CITIES) * 3, True)
