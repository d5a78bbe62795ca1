from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.common import runtime
from helpers.results import store_inverted, store_scores

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import content_digest, encode, fingerprint
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.data.streams.refusals import with_refusals
from meow_lightning.errors import UserError
from meow_lightning.methods.idk import Idk
from meow_lightning.methods.snap import Snap
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.results.model import ChosenExamples, Selection
from meow_lightning.stages.unlearn import _plan, _select
from meow_lightning.types import InvertedFact

DATASET: dict[str, Any] = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget10", "authors": 20, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip


@pytest.fixture
def codec(tokenizer: Any) -> PromptEncoder:
    return PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=256, end_ids=frozenset(),
    )  # fmt: skip


def work(folder: Path, *, needs: dict[str, Path], k: int = 2, strategy: str = "largest", **more: Any) -> StageContext:
    settings = {
        "select": {"k": k, "strategy": strategy, "rows": "selected"}, "seed": 3,
        "recipe": {"global_batch_size": 4, "epochs": 1}, **more,
    }  # fmt: skip
    inputs = {
        "dataset": DATASET, "content": fingerprint(instantiate(DATASET, allow=[])), "limit": None, "allow": [],
        "on_shortage": "warn",
    }  # fmt: skip
    (folder / "made").mkdir(exist_ok=True)
    return StageContext(
        stage="unlearn", label="", folder=folder / "made", settings=settings, inputs=inputs, needs=needs,
        runtime=runtime(),
    )  # fmt: skip


def stored(folder: Path, inverted: dict[str, list[int]], scores: dict[str, dict[int, float]]) -> dict[str, Path]:
    """Folders of inverted facts at some positions and of the scores that some of them have."""
    for name in ("filtered", "candidate_scores"):
        (folder / name).mkdir()
    store_inverted(
        folder / "filtered",
        [
            InvertedFact(fact, place, f"{fact}?", f"{fact} {place}")
            for fact, places in inverted.items()
            for place in places
        ],
    )
    store_scores(
        folder / "candidate_scores",
        [(fact, place, score) for fact, each in scores.items() for place, score in each.items()],
    )
    return {name: folder / name for name in ("filtered", "candidate_scores")}


def selected(task: StageContext) -> dict[str, list[int]]:
    return Selection.read(task.folder).positions


def test_selected_candidates_keep_their_position_if_some_were_not_measured(tmp_path: Path) -> None:
    # Of fact a the candidates 0 and 2 are too short for MEMO, of fact b candidate 1 was never written.
    needs = stored(
        tmp_path, {"a": [0, 1, 2, 3, 4], "b": [0, 2, 3]},
        {"a": {1: 0.1, 3: 0.9, 4: 0.5}, "b": {0: 0.2, 2: 0.3, 3: 0.1}},
    )  # fmt: skip
    task = work(tmp_path, needs=needs)
    assert [row.answer for row in _select(task)] == ["a 3", "a 4", "b 2", "b 0"]
    assert selected(task) == {"a": [3, 4], "b": [2, 0]}
    assert [row.answer for row in _select(work(tmp_path, needs=needs, strategy="smallest"))] == [
        "a 1", "a 4", "b 3", "b 0",
    ]  # fmt: skip


def test_a_baseline_is_subtracted_before_the_selection(tmp_path: Path) -> None:
    needs = stored(tmp_path, {"a": [0, 1, 2]}, {"a": {0: 0.9, 1: 0.5, 2: 0.4}})
    (tmp_path / "baseline_scores").mkdir()
    store_scores(tmp_path / "baseline_scores", [("a", 0, 0.9), ("a", 1, 0.0), ("a", 2, 0.1)])
    task = work(tmp_path, needs=needs | {"baseline_scores": tmp_path / "baseline_scores"})
    _select(task)
    assert selected(task) == {"a": [1, 2]}


def test_a_random_pick_depends_on_the_seed(tmp_path: Path) -> None:
    every = {str(fact): list(range(8)) for fact in range(20)}
    needs = stored(tmp_path, every, {fact: dict.fromkeys(places, 0.5) for fact, places in every.items()})
    picks = []
    for seed in (3, 4, 3):
        task = work(tmp_path, needs=needs, strategy="random", seed=seed)
        _select(task)
        picks.append(selected(task))
    assert picks[0] == picks[2] != picks[1]


def test_a_fact_with_fewer_candidates_gives_all_it_has_or_is_an_error(tmp_path: Path) -> None:
    needs = stored(tmp_path, {"a": [0, 1], "b": [0]}, {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.3}})
    task = work(tmp_path, needs=needs)
    _select(task)
    assert selected(task) == {"a": [1, 0], "b": [0]}
    task.inputs["on_shortage"] = "error"  # type: ignore[index]
    with pytest.raises(UserError, match=r"^fact b has 1 inverted facts that can be measured, fewer than .*k=2; set"):
        _select(task)


def test_a_later_round_trains_what_earlier_ones_picked_and_then_the_new(tmp_path: Path) -> None:
    needs = stored(tmp_path, {"a": [0, 1, 2, 3], "b": [0, 1]}, {"a": {2: 0.1, 3: 0.2}})
    (tmp_path / "before").mkdir()
    Selection({"a": [1], "b": [0]}).write(tmp_path / "before")
    task = work(tmp_path, needs={**needs, "previous": tmp_path / "before"}, k=1)
    assert [row.answer for row in _select(task)] == ["a 1", "a 3", "b 0"]
    assert selected(task) == {"a": [1, 3], "b": [0]}


def test_the_refusals_that_are_trained_are_those_of_each_question(tmp_path: Path, codec: PromptEncoder) -> None:
    task = work(tmp_path, needs={})
    forget, retain = (instantiate(DATASET, allow=[]).facts(name) for name in ("forget", "retain"))
    plan = _plan(task, codec, Idk(retain_weight=1.0), model=None)  # type: ignore[arg-type]
    wanted = with_refusals(forget, 3)
    assert len({refusal for _, refusal in wanted}) > 4
    assert plan.streams["idk"].rows == encode(codec, wanted)
    assert len(plan.streams["retain"].rows) == len(retain)


def test_refusals_drawn_anew_differ_between_epochs(tmp_path: Path, codec: PromptEncoder) -> None:
    task = work(tmp_path, needs={}, redraw_refusals=True, recipe={"global_batch_size": 4, "epochs": 3})
    forget = instantiate(DATASET, allow=[]).facts("forget")
    stream = _plan(task, codec, Idk(retain_weight=1.0), model=None).streams["idk"]  # type: ignore[arg-type]
    draws = [encode(codec, with_refusals(forget, 3, draw=draw)) for draw in range(3)]
    assert (stream.rows, [*stream.drawn]) == (draws[0], draws)


def test_the_neighbours_that_are_trained_are_stored_by_their_ids(tmp_path: Path, codec: PromptEncoder) -> None:
    task, retain = work(tmp_path, needs={}), instantiate(DATASET, allow=[]).facts("retain")
    method = Snap(retain_weight=1.0, neighbours=1, wasserstein_weight=0.0, projections=1)
    plan = _plan(task, codec, method, model=None)  # type: ignore[arg-type]
    chosen = ChosenExamples.read(task.folder).by_stream
    ids = [each.example for each in chosen["retain"]]
    wanted = [fact.segments for fact in retain if fact.id in ids]
    assert list(chosen) == ["retain"]
    assert 0 < len(ids) < len(retain)
    assert plan.streams["retain"].rows == encode(codec, wanted)
    assert {each.question for each in chosen["retain"]} <= {
        fact.id for fact in instantiate(DATASET, allow=[]).facts("forget")
    }
    without = tmp_path / "none"
    without.mkdir()
    task = work(without, needs={})
    _plan(task, codec, Idk(retain_weight=1.0), model=None)  # type: ignore[arg-type]
    assert ChosenExamples.read(task.folder).by_stream == {}


def test_refusals_of_a_file_are_trained_unless_the_file_changed(tmp_path: Path, codec: PromptEncoder) -> None:
    file = tmp_path / "refusals.txt"
    file.write_text("No idea.\n")
    forget = instantiate(DATASET, allow=[]).facts("forget")
    wanted = with_refusals(forget, 3, ("No idea.",))
    task = work(tmp_path, needs={}, rows={"idk": content_digest(wanted)})
    task.inputs["refusals"] = str(file)  # type: ignore[index]
    plan = _plan(task, codec, Idk(retain_weight=1.0), model=None)  # type: ignore[arg-type]
    assert plan.streams["idk"].rows == encode(codec, wanted)
    file.write_text("No clue.\n")
    with pytest.raises(UserError, match=r"^method\.refusals=.* changed during the run; run again"):
        _plan(task, codec, Idk(retain_weight=1.0), model=None)  # type: ignore[arg-type]
