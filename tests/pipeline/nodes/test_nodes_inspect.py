"""Attacks on hidden states in the graph of a run: which models they read, and what their keys depend on."""

from __future__ import annotations

import pytest
from helpers.hydra import cell, keys, options

from meow_lightning.errors import UserError
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.requirements import Planner
from meow_lightning.types import ROLES

BOTH = "attacks=[logit_lens,activation_patching]"


def test_they_read_the_models_and_move_only_the_numbers() -> None:
    before, after = keys(cell()), keys(cell(BOTH))
    read = {f"inspect/{role}/logit_lens" for role in ROLES}
    patched = {f"inspect/{role}/activation_patching" for role in ("unlearned", "retain")}
    assert after.keys() - before.keys() == read | patched
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}
    assert not cell(BOTH).models.attacked
    assert not cell(BOTH).evaluation.attacked


def test_patching_needs_the_target_model_beside_the_one_that_is_read() -> None:
    made = cell(BOTH)
    assert made.evaluation.layers["unlearned", "activation_patching"].needs == {
        "model": made.models.unlearned, "target": made.models.target,
    }  # fmt: skip
    assert made.evaluation.layers["unlearned", "logit_lens"].needs == {"model": made.models.unlearned}
    assert {each.stage for each in made.goal("inspect")} >= {"inspect", "unlearn"}


def test_it_goes_together_with_other_attacks() -> None:
    made = cell("attacks=[logit_lens,quantise_int8]")
    assert [*made.evaluation.attacked] == ["quantise_int8"]
    assert made.results.settings["attacks"] == {"quantise_int8": "after int8 quantisation"}
    assert made.results.settings["layers"]["logit_lens"]["label"] == "in the logit lens"


def test_without_a_retain_model_the_others_are_read() -> None:
    assert {role for role, _ in cell("attacks=[logit_lens]", "model.retain=none").evaluation.layers} == {
        "target",
        "unlearned",
    }


def test_a_model_that_answers_through_several_is_left_out_with_the_reason() -> None:
    made = cell(BOTH, "method=uld")
    assert {role for role, _ in made.evaluation.layers} == {"target", "retain"}
    assert "method=uld answers through several models" in made.results.settings["layerless"]["unlearned"]


def test_the_key_follows_from_the_options_and_the_facts() -> None:
    def key(*words: str) -> str:
        return cell("attacks=[logit_lens]", *words).evaluation.layers["target", "logit_lens"].key

    before = key()
    assert key("attacks.logit_lens.label=other", "trainer.eval_batch_size=3") == before
    assert len({before, key("attacks.logit_lens.threshold=0.1"), key("limit=3")}) == 3


def test_the_estimate_counts_both_models_and_a_pass_per_layer() -> None:
    chosen, made = options(BOTH), cell(BOTH)
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    lens, patching = (
        planner.size(made.evaluation.layers["unlearned", name]) for name in ("logit_lens", "activation_patching")
    )
    assert patching.memory.weights == 2 * lens.memory.weights
    assert planner.layers(made.evaluation.layers["unlearned", "logit_lens"]) == 2
    assert patching.flops == pytest.approx(lens.flops * (2 + 2) / 2, rel=0.01)
    assert lens.disk > 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("attacks.logit_lens.threshold=2",), r"attacks\.logit_lens\.threshold=2"),
        (("+attacks.logit_lens.curve=2",), r"attacks\.logit_lens\.curve"),
    ],
)
def test_a_mistake_is_named_while_the_graph_is_built(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        cell("attacks=[logit_lens]", *words)
