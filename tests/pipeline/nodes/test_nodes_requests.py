"""Requests in the graph of a run: what adds them, what each starts from, and mistakes before any work."""

from __future__ import annotations

import pytest
from helpers.hydra import cell, keys, options

from meow_lightning.errors import UserError
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.preflight import Known, Preflight
from meow_lightning.store.store import Store

WORDS = ("protocol=sequential", "protocol.requests=3")


def test_by_default_nothing_is_computed_and_no_other_key_moves() -> None:
    before, after = keys(cell()), keys(cell(*WORDS))
    assert cell().evaluation.sequence is None
    models = ("request/1", "request/2", "request/3", "joint")
    assert after.keys() - before.keys() == {
        f"{name}/{kind}" for name in models for kind in ("model", "predict", "score")
    }
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"}
    assert {after[f"joint/{kind}"] for kind in ("model", "predict", "score")} == {
        before["unlearned"], before["predict/unlearned"], before["score/unlearned/answers"],
    }, "all at once is the run without the protocol"  # fmt: skip


@pytest.mark.parametrize("method", ["meow", "grad_ascent", "npo_gd", "task_vector", "eul"])
def test_every_request_starts_from_the_model_of_the_one_before(method: str) -> None:
    made = cell(*WORDS, f"method={method}")
    assert made.evaluation.sequence is not None
    models = [each.model for each in made.evaluation.sequence.requests]
    assert [each.needs["start"].key for each in models] == [made.models.target.key, models[0].key, models[1].key]
    assert made.models.unlearned is models[-1]
    assert [each.label for each in models] == ["request 1", "request 2", "request 3"]
    asked = [each.inputs["request"] for each in models]
    assert [len(each["forget"]) for each in asked] == [2, 3, 3]
    assert [len(each["later"]) for each in asked] == [6, 3, 0]


def test_inverted_facts_are_scored_on_the_model_that_the_request_starts_from() -> None:
    made = cell(*WORDS)
    assert made.evaluation.sequence is not None
    second = made.evaluation.sequence.requests[1].model
    assert second.needs["candidate_scores"].needs["model"] is made.evaluation.sequence.requests[0].model
    assert made.evaluation.scores["target", "candidates"].needs["model"] is made.models.target


def test_a_method_with_rounds_repeats_them_in_every_request() -> None:
    made = cell(*WORDS, "method=meow_loop", "method.rounds.count=2")
    labels = [each.label for each in made.goal("unlearn") if each.stage == "unlearn"]
    assert labels == [
        *(f"request {n}{part}" for n in (1, 2, 3) for part in (" round 1", "")), "joint round 1", "joint",
    ]  # fmt: skip


def test_goals_include_every_request() -> None:
    made = cell(*WORDS)
    assert [each.label for each in made.goal("propose")] == ["joint", "request 1", "request 2", "request 3"]
    predicted = {each.label for each in made.goal("predict") if each.stage == "predict"}
    assert predicted == {"target", "unlearned", "retain", "joint", "request 1", "request 2"}


def test_the_key_of_a_request_follows_from_its_facts_and_the_retained_ones() -> None:
    def unlearned(*words: str) -> list[str]:
        sequence = cell("method=npo_gd", *words).evaluation.sequence
        assert sequence is not None
        return [each.model.key for each in sequence.requests]

    plain, ordered = unlearned(*WORDS), unlearned(*WORDS, "protocol.order=1")
    assert plain == unlearned(*WORDS, "trainer.micro_batch_size=3")
    assert not {*plain} & {*ordered}


def test_the_estimates_of_a_request_count_its_facts_alone(tmp_path) -> None:
    chosen, made = options(*WORDS, "method=grad_ascent"), cell(*WORDS, "method=grad_ascent")
    assert made.evaluation.sequence is not None
    known = Known(trainer=chosen.trainer, store=Store(root=tmp_path, cache="use"))
    preflight = Preflight(chosen, dataset=dataset_of(chosen)[0], streams=made.streams, known=known)
    items = [preflight.outlook(each.model).items for each in made.evaluation.sequence.all]
    assert items[0] < items[1] == items[2] < items[3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("protocol=sequential", "protocol.requests=9"), r"protocol\.requests=9 .*Did you mean 8\?"),
        (("protocol=sequential", "protocol.group_by=autor"), r"protocol\.group_by=autor .*Did you mean author\?"),
        (("protocol=sequential", "method=retrain"), r"method=retrain starts from the retain model.*protocol=once"),
        (("protocol=sequential", "method=uld"), r"method=uld .*cannot be trained on.*protocol=once"),
        (("protocol.requests=3",), r"protocol\.requests=3 is invalid: expected null for protocol=once"),
        (("protocol=sequential", "protocol.requests=null"), r"needs protocol\.requests .*or protocol\.group_by"),
        (("protocol=sequential", "protocol.requests=1"), r"protocol\.requests=1 is invalid: expected a number from 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_served_is_one_line_before_any_work(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cell(*words)
