"""Attacks in the graph of a run: what adds them, what their keys depend on, and mistakes before any work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.hydra import cell, keys, moved, options

from meow_lightning.errors import UserError
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.nodes.context import dataset_of
from meow_lightning.planning.requirements import Planner
from meow_lightning.types import ROLES

UNLEARNED = Subject("unlearned", "relearn")


def key(made: RunGraph, subject: Subject = UNLEARNED) -> str:
    return made.models.attacked[subject].key


def test_by_default_nothing_is_computed_and_an_attack_moves_only_the_numbers() -> None:
    before, after = keys(cell()), keys(cell("attacks=[relearn,quantise_int4]"))
    assert not cell().models.attacked
    subjects = [f"{role}@{condition}" for role in ROLES for condition in ("relearn", "quantise_int4")]
    added = {name for each in subjects for name in (each, f"predict/{each}", f"score/{each}/answers")}
    assert after.keys() - before.keys() == added
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}


def test_every_model_is_attacked_predicted_and_scored_alike() -> None:
    made = cell("attacks=relearn", "model.retain=none")
    assert [*made.models.attacked] == [Subject("target", "relearn"), UNLEARNED]
    attacked = made.models.attacked[UNLEARNED]
    assert attacked.title == "attack unlearned@relearn"
    assert attacked.needs == {"model": made.models.unlearned}
    (condition,) = made.evaluation.attacked.values()
    assert condition.predictions["unlearned"].needs == {"model": attacked}
    assert condition.predictions["unlearned"].settings == made.evaluation.predictions["unlearned"].settings
    assert condition.scores["unlearned", "answers"].needs == {"model": attacked}
    assert {each.stage for each in made.goal("attack")} >= {"attack", "unlearn"}
    assert attacked in made.goal("predict")


def test_the_key_follows_from_options_recipe_rows_and_the_seed_of_training() -> None:
    before = key(cell("attacks=relearn"))
    same = ("attacks.relearn.label=later", "trainer.micro_batch_size=3", "attacks=[relearn,quantise_int8]")
    assert {key(cell("attacks=relearn", word)) for word in same} == {before}
    moving = (
        "attacks.relearn.epochs=2", "attacks.relearn.lr=1e-3", "attacks.relearn.share=0.5",
        "attacks.relearn.data=retain", "attacks.relearn.schedule=linear",
    )  # fmt: skip
    others = [key(cell("attacks=relearn", word)) for word in moving if word != "attacks.relearn.lr=1e-3"]
    others += [key(cell("attacks=relearn", "attacks.relearn.lr=0.5")), key(cell("attacks=relearn", "limit=3"))]
    assert len({before, *others}) == 1 + len(others)
    assert "seed" not in cell("attacks=quantise_int4").models.attacked[Subject("target", "quantise_int4")].settings


def test_the_recipe_has_the_numbers_of_the_model() -> None:
    recipe = cell("attacks=relearn").models.attacked[UNLEARNED].settings["recipe"]
    table = options("attacks=relearn").attacks["relearn"].lr
    assert recipe["lr"] == table["tiny"] != table["default"] == 2e-5
    other = cell("attacks=relearn", "model.name=mine").models.attacked[UNLEARNED].settings["recipe"]
    assert other["lr"] == 2e-5


def test_a_curve_is_measured_where_it_is_asked_for() -> None:
    plain, curved = (
        cell("attacks=[relearn,quantise_int8]", *words) for words in ((), ("attacks.relearn.curve=2",))
    )  # fmt: skip
    assert "curve" not in plain.models.attacked[UNLEARNED].settings
    assert curved.models.attacked[UNLEARNED].settings["curve"]["every"] == 2
    assert key(curved) != key(plain)
    assert "curve" not in plain.report.settings["options"]["attacks"]["relearn"]
    with pytest.raises(UserError, match=r"attacks\.quantise_int8\.curve=2 has no effect"):
        cell("attacks=[quantise_int8]", "+attacks.quantise_int8.curve=2")


def test_facts_that_relearning_leaves_out_are_counted_by_themselves() -> None:
    facts = {fact.id for fact in cell().dataset.facts("forget")}
    trained = cell("attacks=relearn", "attacks.relearn.share=0.5").results.settings["trained"]["relearn"]
    assert len(trained) == round(len(facts) / 2)
    assert set(trained) < facts
    for words in ((), ("attacks.relearn.data=retain",)):
        assert "trained" not in cell("attacks=relearn", *words).results.settings


def test_an_attack_may_be_added_twice_under_different_names() -> None:
    made = cell("attacks=relearn", "+attacks@attacks.longer=relearn", "attacks.longer.epochs=3")
    assert {subject.condition for subject in made.models.attacked} == {"relearn", "longer"}
    assert made.models.attacked[Subject("target", "longer")].settings["recipe"]["epochs"] == 3


def test_pruning_reads_the_retain_set_and_its_numbers_are_evaluated() -> None:
    made = cell("attacks=[prune,quantise_int4]")
    settings = made.models.attacked[Subject("unlearned", "prune")].settings
    assert set(settings) == {"attack", "rows", "seed", "model"}
    assert made.evaluation.attacked["prune"].measured == {
        role: made.models.attacked[Subject(role, "prune")] for role in ROLES
    }  # fmt: skip
    assert made.evaluation.attacked["quantise_int4"].measured == {}
    assert keys(made)["results"] != keys(cell("attacks=quantise_int4"))["results"]


def test_adapters_of_an_attack_are_used_unless_the_model_has_some() -> None:
    subject = Subject("unlearned", "prune_recovered")

    def lora(*words: str) -> object:
        return cell("attacks=prune_recovered", *words).models.attacked[subject].settings["model"]["lora"]

    assert lora() == {"rank": 8, "alpha": 16.0}
    assert lora("model.lora.rank=4") == {"rank": 4, "alpha": 32.0}
    assert lora("attacks.prune_recovered.lora.rank=null") is None
    with pytest.raises(
        UserError, match=r"^attacks\.prune_recovered\.lora\.rank=8 is invalid: expected null for .*fsdp"
    ):
        lora("trainer=fsdp")


def test_pruning_leaves_out_a_model_that_answers_through_the_method() -> None:
    made = cell("attacks=[prune,quantise_int4]", "method=uld")
    assert {*made.evaluation.attacked["prune"].predictions} == {"target", "retain"}
    assert {*made.evaluation.attacked["quantise_int4"].predictions} == {*ROLES}
    ((attack, reasons),) = made.results.settings["unattacked"].items()
    assert attack == "prune"
    assert reasons.keys() == {"unlearned"}
    assert re.match(r"the attack builds another model, .* method=uld", reasons["unlearned"])
    assert "unattacked" not in cell("attacks=prune").results.settings


@pytest.mark.parametrize("attack", ["relearn", "quantise_int4", "prune", "prune_recovered"])
def test_the_estimates_of_an_attack(attack: str) -> None:
    chosen, made = options(f"attacks={attack}"), cell(f"attacks={attack}")
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    artifact = made.models.attacked[Subject("unlearned", attack)]
    sized = planner.size(artifact)
    weights = planner.weights(artifact)
    assert sized.memory.total > 4 * weights
    assert sized.disk >= 4 * weights
    assert (sized.flops > 0) == (attack in ("relearn", "prune_recovered"))
    assert isinstance(planner.fitting(artifact), list)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("attacks.relearn.share=0",), r"^attacks\.relearn\.share=0"),
        (("attacks.relearn.data=all",), r"attacks\.relearn\.data=all"),
        (("attacks.relearn.lr=2",), r"attacks\.relearn\.lr=2"),
        (("attacks.relearn.epochs=1.5",), r"attacks\.relearn\.epochs=1\.5"),
        (("~attacks.relearn.betas",), r"attacks\.relearn\.betas is required"),
        (("~attacks.relearn.label",), r"attacks\.relearn\.label is missing"),
        (("+attacks.relearn.shares=1",), r"attacks\.relearn\.shares is not an option.*Did you mean share"),
        (("attacks.relearn._target_=meow_lightning.methods.npo.Npo",), r"attacks\.relearn"),
        (("+attacks@attacks.a-b=quantise_int8",), r"attacks=a-b"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_while_the_graph_is_built(words: tuple[str, ...], named: str) -> None:
    with pytest.raises(UserError, match=named):
        cell("attacks=relearn", *words)


def test_an_attack_on_prompts_runs_the_same_models_with_other_prompts() -> None:
    made = cell("attacks=[prefix]", "model.retain=none")
    assert not made.models.attacked
    (condition,) = made.evaluation.attacked.values()
    before, after = made.evaluation.predictions["unlearned"], condition.predictions["unlearned"]
    assert after.needs == {"model": made.models.unlearned} == before.needs
    assert after.key != before.key
    settings = dict(after.settings["model"])
    assert settings.pop("prompt_attack")["attack"]["examples"] == 1
    assert settings == before.settings["model"]
    assert condition.scores["unlearned", "answers"].key != made.evaluation.scores["unlearned", "answers"].key
    moved = [cell("attacks=[prefix]", word).evaluation.attacked["prefix"].predictions["unlearned"].key for word in (
        "attacks.prefix.examples=2", "attacks.prefix.instruction=Please", "attacks.prefix.label=other",
    )]  # fmt: skip
    key = cell("attacks=[prefix]").evaluation.attacked["prefix"].predictions["unlearned"].key
    assert [each == key for each in moved] == [False, False, True]


def test_the_estimate_of_predictions_counts_the_prefix() -> None:
    chosen, made = (
        options("attacks=[prefix]", "attacks.prefix.examples=4"),
        cell("attacks=[prefix]", "attacks.prefix.examples=4"),
    )
    planner = Planner(chosen.plain(), dataset=dataset_of(chosen)[0], streams=made.streams, gpu=False, available=10**12)
    before = planner.size(made.evaluation.predictions["unlearned"]).flops
    assert planner.size(made.evaluation.attacked["prefix"].predictions["unlearned"]).flops > 1.5 * before


def test_an_attack_on_prompts_needs_our_own_protocol() -> None:
    with pytest.raises(UserError, match=r"attacks\.prefix transforms prompts, but evaluation\.protocol=tofu"):
        cell("attacks=[prefix]", "evaluation.protocol=tofu")


def test_the_key_of_an_attack_on_prompts_follows_from_what_it_reads(tmp_path: Path) -> None:
    def made(**changes: object) -> dict[str, str]:
        path = tmp_path / f"facts-{len(changes)}.jsonl"
        facts = [
            {"question": f"Where is {name}?", "answer": f"{name} is in Lima.", "perturbed": ["In Rome."]} | changes
            for name in ("Ada", "Bo")
        ]
        path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
        words = ("dataset=jsonl", f"dataset.forget={path}", "method=grad_ascent", "attacks=paraphrase")
        return keys(graph(options(*words, small=())))

    before, after = made(), made(rewordings=["Which town?"])
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {name for name in before if "@paraphrase" in name} | {"results", "report"}
    assert len(moved) >= 6


def test_where_other_answers_are_asked_for_memo_is_not_measured() -> None:
    (condition,) = cell("attacks=multiple_choice").evaluation.attacked.values()
    assert {*condition.predictions} == {*ROLES}
    assert not condition.scores


def test_the_label_counts_the_facts_that_are_asked_if_not_all_and_the_ways_if_several() -> None:
    labels = cell("attacks=[cloze,reversed,template]").results.settings["attacks"]
    assert labels["cloze"] == "with a blank for the value"
    assert labels["template"] == "under prompt templates (best of 6 ways)"
    asked = re.fullmatch(r"asked for the subject \((\d+) of 8 questions\)", labels["reversed"])
    assert asked is not None
    assert 0 < int(asked[1]) < 8


def test_facts_that_an_attack_cannot_ask_are_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text(json.dumps({"question": "Where is Ada?", "answer": "She sleeps."}) + "\n")
    words = ("dataset=jsonl", f"dataset.forget={path}", "dataset.perturb=0", "method=grad_ascent")
    for attack in ("cloze", "reversed", "multiple_choice", "in_context"):
        with pytest.raises(UserError, match=rf"attacks\.{attack} cannot ask .* needs .* leave it out with ~attacks"):
            graph(options(*words, f"attacks={attack}", small=()))
    assert graph(options(*words, "attacks=full", *(f"~attacks.{each}" for each in (
        "cloze", "reversed", "multiple_choice", "in_context", "prefix", "prune", "prune_recovered",
    )), small=())).evaluation.attacked  # fmt: skip


def test_training_on_facts_that_the_dataset_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    facts = [{"question": f"Where is {name}?", "answer": f"{name} is in Lima."} for name in ("Ada", "Bo", "Cy")]
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    words = ("dataset=jsonl", f"dataset.forget={path}", "method=grad_ascent", "attacks=relearn")
    assert graph(options(*words, small=())).models.attacked
    with pytest.raises(UserError, match=r"attacks\.relearn trains on facts, but dataset=jsonl has none"):
        graph(options(*words, "attacks.relearn.data=retain", small=()))


def test_the_goal_attack_needs_an_attack() -> None:
    with pytest.raises(UserError, match=r"attacks=\[relearn\]"):
        cell().goal("attack")


def test_an_attack_that_asks_adds_its_texts_of_every_model_and_moves_only_the_numbers() -> None:
    before, after = keys(cell()), keys(cell("attacks=sample"))
    assert after.keys() - before.keys() == {f"extract/{role}/sample" for role in ROLES}
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}
    made = cell("attacks=sample", "model.retain=none")
    assert [*made.evaluation.extractions] == [("target", "sample"), ("unlearned", "sample")]
    assert made.evaluation.extractions["unlearned", "sample"].needs == {"model": made.models.unlearned}
    assert not made.models.attacked
    assert not made.evaluation.attacked
    assert made.evaluation.extractions["target", "sample"] in made.goal("extract")


def test_the_key_of_its_texts_follows_from_options_facts_and_seed() -> None:
    def key_of(*words: str) -> str:
        return cell("attacks=sample", *words).evaluation.extractions["target", "sample"].key

    before = key_of()
    same = ("attacks.sample.label=other", "trainer.generation_batch_size=3", "attacks=[sample,quantise_int8]")
    assert {key_of(word) for word in same} == {before}
    moving = ("attacks.sample.samples=8", "attacks.sample.top_k=40", "evaluation.max_new_tokens=9", "limit=3")
    assert len({before, *map(key_of, moving)}) == 1 + len(moving)


def test_an_attack_that_asks_needs_our_own_protocol() -> None:
    with pytest.raises(UserError, match=r"attacks\.sample asks with .*evaluation\.protocol=tofu"):
        cell("attacks=sample", "evaluation.protocol=tofu")


def test_the_goal_extract_needs_an_attack_that_asks() -> None:
    with pytest.raises(UserError, match=r"attacks=\[sample\]"):
        cell("attacks=prefix").goal("extract")


@pytest.mark.parametrize("words", ["attacks=none", "attacks=[]", "attacks=[none]"])
def test_no_attack_by_any_name_leaves_the_run_as_it_is(words: str) -> None:
    assert options(words).attacks == {}
    assert moved(words) == set()
