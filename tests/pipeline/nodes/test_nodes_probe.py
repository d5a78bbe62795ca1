"""The graph of a dataset whose splits depend on what the target model answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.hydra import options
from helpers.known import CITIES, KNOWN, answer, known_words

from meow_lightning.data.probed import probed_dataset
from meow_lightning.errors import UserError
from meow_lightning.pipeline import build
from meow_lightning.pipeline.graph import RunGraph


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    return known_words(tmp_path)


def graph(*words: str) -> RunGraph:
    return build.graph(options(*words, small=()))


def test_before_the_model_is_asked_the_graph_is_that_of_all_questions(words) -> None:
    made = graph(*words)
    assert made.probe is not None
    assert not made.probed
    assert len(made.dataset.facts("retain")) == len(CITIES) - 2
    assert [each.stage for each in made.goal("probe")] == ["finetune", "probe"]


def test_its_answers_define_the_splits_and_the_keys(words, tmp_path: Path) -> None:
    before = graph(*words)
    answer(before, tmp_path / "outputs")
    after = graph(*words)
    assert after.probed
    assert len(after.dataset.facts("retain")) == KNOWN - 2
    assert after.probe is not None
    assert before.probe is not None
    assert after.probe.key == before.probe.key
    assert after.models.target.key == before.models.target.key
    assert after.evaluation.predictions["target"].key != before.evaluation.predictions["target"].key
    assert after.report.needs["probe"].key == after.probe.key


@pytest.mark.parametrize(
    "change", ["dataset.forget_count=1", "seed=3", "dataset.wording=file", "method=npo", "limit=2"]
)
def test_what_is_done_with_the_answers_does_not_ask_again(words, change: str) -> None:
    first, second = graph(*words), graph(*words, change)
    assert first.probe is not None
    assert second.probe is not None
    assert first.probe.key == second.probe.key


@pytest.mark.parametrize("change", ["dataset.answer_tokens=3", "dataset.max_new_tokens=30", "model.prompt.system=Hi"])
def test_how_the_model_is_asked_is_part_of_the_key(words, change: str) -> None:
    first, second = graph(*words), graph(*words, change)
    assert first.probe is not None
    assert second.probe is not None
    assert first.probe.key != second.probe.key


def test_a_refreshed_run_asks_again(words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(graph(*words), tmp_path / "outputs")
    assert graph(*words, "cache=refresh").probed  # answered in this session
    monkeypatch.setattr("meow_lightning.store.store.SESSION_START", 10**12)
    assert not graph(*words, "cache=refresh").probed


def test_a_model_that_knows_too_little_is_refused(words, tmp_path: Path) -> None:
    answer(graph(*words), tmp_path / "outputs", known=1)
    with pytest.raises(UserError, match=r"^the target model knows 1 of 6 facts"):
        graph(*words)


def test_a_model_is_needed_to_ask(words) -> None:
    questions = [word for word in words if word.startswith("dataset")]
    with pytest.raises(UserError, match=r"^dataset=known asks a model which facts it knows.*model.target=FOLDER"):
        graph(*questions)


def test_other_datasets_ask_nothing() -> None:
    made = build.graph(options())
    assert (made.probe, made.probed, probed_dataset(made.dataset)) == (None, True, None)
    with pytest.raises(UserError, match=r"^goal=probe asks the model nothing"):
        made.goal("probe")
