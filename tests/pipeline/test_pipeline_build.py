from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.hydra import cell, keys, moved, named, options, with_values

from meow_lightning.config.recipes import method_recipe
from meow_lightning.errors import UserError
from meow_lightning.evaluation.subject import Subject
from meow_lightning.pipeline.build import graph
from meow_lightning.stages import stages, up_to

EVERYTHING = {
    "proposed", "filtered", "base", "target", "retain", "unlearned", "score/target/answers", "score/retain/answers",
    "score/unlearned/answers", "score/target/candidates", "predict/target", "predict/retain", "predict/unlearned",
    "results", "report",
}  # fmt: skip
OWN = {"unlearned", "predict/unlearned", "score/unlearned/answers", "results", "report"}


def test_the_default_run_is_the_picture_in_the_readme():
    made = named(cell())
    assert set(made) == EVERYTHING
    needs = {name: {need.key for need in artifact.needs.values()} for name, artifact in made.items()}
    assert needs["base"] == needs["proposed"] == set()
    assert needs["filtered"] == {made["proposed"].key}
    assert needs["target"] == needs["retain"] == {made["base"].key}
    assert needs["score/target/candidates"] == {made["target"].key, made["filtered"].key}
    assert needs["unlearned"] == {made["target"].key, made["filtered"].key, made["score/target/candidates"].key}
    for role in ("target", "retain", "unlearned"):
        assert needs[f"predict/{role}"] == needs[f"score/{role}/answers"] == {made[role].key}
    assert needs["results"] == {
        *(made[name].key for name in EVERYTHING if name.startswith(("predict/", "score/"))),
        made["filtered"].key,
    }
    assert needs["report"] == {artifact.key for artifact in made.values()} - {made["report"].key}


def test_methods_share_all_that_is_not_theirs():
    meow, ascent = keys(cell()), keys(cell("method=grad_ascent"))
    assert set(meow) - set(ascent) == {"proposed", "filtered", "score/target/candidates"}
    assert {name for name in ascent if ascent[name] != meow[name]} == OWN


def test_splits_share_base_and_target_but_no_retain_model():
    words = ("dataset.authors=40", "dataset.retain_eval=8")
    assert {"base", "target"} & moved("dataset.split=forget05", start=words) == set()
    assert {"retain", "unlearned", "predict/target", "score/target/answers"} <= moved(
        "dataset.split=forget05", start=words
    )


@pytest.mark.parametrize(
    "words",
    [
        ("trainer=gpu",), ("trainer=ddp", "trainer.devices=2"), ("trainer=fsdp", "trainer.devices=2"),
        ("trainer.micro_batch_size=1",), ("trainer.eval_batch_size=3",),
        ("trainer.micro_batch_tokens=300",),
        ("trainer.generation_batch_size=2",), ("trainer.parallel_stages=1", "trainer.threads=3"), ("logger=none",),
        ("logger=csv",),
        ("logger.project=other", "logger.texts=true"), ("callbacks.memo_every_epochs=0",), ("callbacks.log_every=9",),
        ("callbacks.memo_every_steps=3",),
        ("callbacks.checkpoint_seconds=1",), ("outputs=elsewhere",), ("cache=refresh",),
        ("goal=score",), ("plan=true",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_runtime_options_change_no_key(words):
    assert moved(*words) == set()


def test_verifying_adds_checks_and_changes_no_score():
    before, after = keys(cell()), keys(cell("memo.verify=3"))
    added = {name for name in EVERYTHING | set(before) if name.startswith("score/")}
    assert after.keys() - before.keys() == {name.replace("score", "verify") for name in added}
    assert {name for name in before if before[name] != after[name]} == {"report"}  # it lists what was made
    checked = cell("memo.verify=3").verifications[Subject("target"), "answers"]
    assert checked.needs["scores"].key == before["score/target/answers"]
    assert (checked.settings["windows"], checked.settings["seed"]) == (3, 0)


def test_scores_of_attacked_models_are_verified_too():
    before, after = cell("attacks=quantise_int4"), cell("attacks=quantise_int4", "memo.verify=3")
    added = keys(after).keys() - keys(before).keys()
    roles = ("target", "unlearned", "retain")
    assert {f"verify/{role}{ATTACKED}/answers" for role in roles} == {name for name in added if ATTACKED in name}
    checked = after.verifications[Subject("unlearned", "quantise_int4"), "answers"]
    assert checked.needs["model"].label == f"unlearned{ATTACKED}"
    assert checked.needs["scores"].key == before.evaluation.attacked["quantise_int4"].scores["unlearned", "answers"].key


def test_verified_scores_come_with_the_scores():
    stages = {(artifact.stage, artifact.label) for artifact in cell("memo.verify=3").goal("score")}
    assert {("verify", "target answers"), ("verify", "target candidates"), ("score", "target answers")} <= stages
    assert not any(stage == "unlearn" for stage, _ in stages)
    with pytest.raises(UserError, match=r"^goal=verify checks nothing with memo.verify=0; set memo.verify=100"):
        cell().goal("verify")


def test_a_forget_set_without_a_window_is_reported_before_any_work(tmp_path: Path):
    path = tmp_path / "facts.jsonl"
    facts = [{"question": "Who?", "answer": "Ada Stone."}, {"question": "How?", "answer": "4 :-)"}]
    path.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    own = {
        "name": "jsonl", "_target_": "meow_lightning.data.jsonl.Jsonl", "forget": str(path), "retain": None,
        "real_world": True, "perturb": 2, "retain_eval": 9, "seed": 0,
    }  # fmt: skip
    words = with_values(options(), {"dataset": own})
    with pytest.raises(UserError, match=r"^MEMO cuts no window from the answer of fact .*has no word"):
        graph(words)


def test_seed_changes_all():
    assert moved("seed=1") == EVERYTHING


def test_memo_changes_scores_and_what_is_picked_by_them_but_no_model_before():
    scores = {name for name in EVERYTHING if name.startswith("score/")}
    for words in ("memo=official", "memo=ma", "memo=el", "memo.cut_unit=words", "memo.empty_windows=zero"):
        assert moved(words) == scores | {"unlearned", "predict/unlearned", "results", "report"}
    ascent = moved("memo=official", start=("method=grad_ascent",))
    assert ascent == scores - {"score/target/candidates"} | {"results", "report"}


@pytest.mark.parametrize(
    ("word", "target", "rest"),
    [
        ("memo=ma", "Memorization", {"mode": "suffix", "template": True}),
        ("memo=el", "Extraction", {"mode": "suffix", "template": True, "n": 1}),
    ],
)
def test_the_key_of_a_score_holds_the_measure_without_name_and_verification(word, target, rest):
    made = cell(word, "memo.verify=2").evaluation.scores["target", "answers"].settings["memo"]
    assert made == {"_target_": f"meow_lightning.memo.baselines.{target}", **rest}


def test_the_report_says_when_it_is_not_memo():
    said = "Memorization is measured with EL (memo=el) wherever this report says MEMO."
    assert said in cell("memo=el").report.settings["notes"]
    assert not [note for note in cell("memo=official").report.settings["notes"] if note.startswith("Memorisation")]


def test_the_budget_of_an_answer_changes_answers_alone():
    answers = {"predict/target", "predict/retain", "predict/unlearned"}
    assert moved("evaluation.max_new_tokens=9") == answers | {"results", "report"}


def test_gradients_are_taken_where_both_sides_of_the_attack_are_answered(tmp_path: Path):
    answers = {"predict/target", "predict/retain", "predict/unlearned"}
    assert moved("evaluation.gradient_norm=false") == answers | {"results", "report"}
    assert cell().evaluation.predictions["target"].settings["evaluation"]["gradients"] == ["forget", "holdout"]
    loop = cell("method=meow_loop", "method.rounds.count=2")
    (between,) = [
        each for each in loop.report.walk() if each.stage == "predict" and [*each.settings["sets"]] == ["forget"]
    ]
    assert between.settings["evaluation"]["gradients"] == []


def test_a_choice_of_arithmetic_costs_no_model():
    assert moved("evaluation.truth_ratio_mean=arithmetic") == {"results", "report"}


@pytest.mark.parametrize("name", ["tofu", "open_unlearning"])
def test_another_evaluator_answers_and_counts_otherwise(name):
    words = f"evaluation.protocol={name}"
    answers = {"predict/target", "predict/retain", "predict/unlearned"}
    assert moved(words) == answers | {"results", "report"}
    made = cell(words)
    gradients = ["forget", "holdout"]
    assert made.evaluation.predictions["target"].settings["evaluation"] == {"protocol": name, "gradients": gradients}
    assert made.results.settings["protocol"] == name
    # what a teacher is told in a loop is no number of anybody's evaluator
    loop = cell("method=meow_loop", words).rounds[1].proposed
    assert loop.key == cell("method=meow_loop").rounds[1].proposed.key


def test_setting_rows_aside_costs_no_model_and_is_reported():
    assert moved("evaluation.selection_fraction=0.25") == {"results", "report"}
    made = cell("evaluation.selection_fraction=0.25")
    assert made.results.settings["selection_fraction"] == 0.25
    (note,) = [note for note in made.report.settings["notes"] if note.startswith("Questions held out")]
    assert "forget 6 of 8" in note
    assert "selection_fraction" not in cell().results.settings
    for share in ("-0.1", "1", "1.5"):
        with pytest.raises(
            UserError,
            match=r"^evaluation.selection_fraction=.* is invalid: expected a number of at least 0 and below 1$",
        ):
            cell(f"evaluation.selection_fraction={share}")


STOP = ("optim.checkpoint=best", "evaluation.selection_fraction=0.25")


def test_choosing_an_epoch_needs_the_retain_models_answers():
    made = cell(*STOP)
    unlearned = made.models.unlearned
    assert unlearned.needs["retain_predictions"].key == made.evaluation.predictions["retain"].key
    assert unlearned.settings["checkpoint"]["selection_fraction"] == 0.25
    assert moved("optim.checkpoint=best", start=STOP[1:]) == OWN
    assert moved("evaluation.max_new_tokens=9", start=STOP) >= OWN
    assert "checkpoint" not in cell().models.unlearned.settings
    assert cell("method=none", *STOP).models.unlearned.key == cell("method=none").models.unlearned.key
    # it is watched by our own evaluation, whose ever numbers the cell shows
    other = cell(*STOP, "evaluation.protocol=tofu").models.unlearned
    assert other.needs["retain_predictions"].key == made.evaluation.predictions["retain"].key


def test_an_epoch_cannot_be_chosen_without_rows_or_a_retain_model_or_after_the_last_step():
    with pytest.raises(
        UserError,
        match=r"^optim.checkpoint=best selects an epoch on held-out questions.* set evaluation.selection_fraction",
    ):
        cell("optim.checkpoint=best")
    with pytest.raises(UserError, match=r"^optim.checkpoint=best compares every epoch with the retain model, but"):
        cell(*STOP, "model.retain=none")
    with pytest.raises(UserError, match=r"^method=task_vector changes the model after its last step"):
        cell(*STOP, "method=task_vector")


@pytest.mark.parametrize(
    ("words", "named"),
    [(["model.lora.rank=4"], r"model\.lora\.rank=4 is invalid: expected null"),
     (["+method.lora={rank: 4, alpha: 8.0, init: default}"], r"method\.lora\.rank=4 is invalid: expected null"),
     (["trainer=fsdp"], r"trainer\.strategy=fsdp is invalid: expected ddp \(trainer=ddp\)")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["uld", "eul", "balanced_subnet", "subnet"])
def test_a_method_that_attaches_modules_is_refused_with_adapters_and_shards(method: str, words: list[str], named: str):
    with pytest.raises(UserError, match=rf"^{named}: method={method} attaches modules"):
        cell(f"method={method}", *words)


def test_the_report_of_such_a_method_shows_the_start_model_alone():
    assert cell("method=uld").report.settings["keeps_start"] is True
    assert "keeps_start" not in cell("method=npo").report.settings


def test_prompts_and_means_that_another_evaluator_does_not_know():
    with pytest.raises(UserError, match=r"^evaluation.protocol=tofu does not support chat templates"):
        graph(options("evaluation.protocol=tofu", "model=qwen2_5_1_5b_instruct", "dataset=fictional", small=()))
    with pytest.raises(
        UserError, match=r"^evaluation.truth_ratio_mean=arithmetic is invalid: expected geometric, the mean of"
    ):
        cell("evaluation.protocol=open_unlearning", "evaluation.truth_ratio_mean=arithmetic")
    cell("evaluation.protocol=tofu", "evaluation.truth_ratio_mean=arithmetic")
    with pytest.raises(UserError, match=r"evaluation.protocol.*tofuu.*none, tofu, open_unlearning"):
        options("evaluation.protocol=tofuu")


@pytest.mark.parametrize(
    "word",
    ["optim.lr=0.5", "optim.epochs=1", "optim.max_grad_norm=0", "method.select.k=2", "optim.batch_tokens=300",
     "optim=adamw8bit", "optim=paged"],
)  # fmt: skip
def test_a_recipe_changes_the_unlearned_model_alone(word):
    assert moved(word) == OWN


def test_a_recipe_says_nothing_of_what_is_as_it_was_before_there_was_a_choice():
    plain, other = named(cell()), named(cell("optim=paged", "optim.batch_tokens=300"))
    assert {"optimizer", "batch_tokens"} & set(plain["unlearned"].settings["recipe"]) == set()
    assert {"optimizer", "batch_tokens"} & set(plain["report"].settings["options"]["optim"]) == set()
    for said in (other["unlearned"].settings["recipe"], other["report"].settings["options"]["optim"]):
        assert (said["optimizer"], said["batch_tokens"]) == ("paged", 300)


def test_more_candidates_change_nothing_that_is_made_without_them():
    assert {"base", "target", "retain", "predict/retain"} & moved("inversion.candidates=4") == set()
    assert {"filtered", "score/target/candidates", "unlearned"} <= moved("inversion.candidates=4")


@pytest.mark.parametrize("word", ["model.finetune.lr=0.5", "model.finetune.replay=3", "model.finetune.also=[]"])
def test_a_fine_tuning_recipe_leaves_the_base_model(word):
    assert moved(word) == EVERYTHING - {"base", "proposed", "filtered"}


@pytest.mark.parametrize(("method", "twin"), [("none", "target"), ("retrain", "retain")])
def test_a_method_that_trains_nothing_is_the_model_it_starts_from(method, twin):
    made = keys(cell(f"method={method}"))
    assert made["unlearned"] == made[twin]
    assert made["predict/unlearned"] == made[f"predict/{twin}"]
    assert made["score/unlearned/answers"] == made[f"score/{twin}/answers"]


ATTACKED = "@quantise_int4"


def test_a_goal_holds_what_it_needs_before_it_and_nothing_after():
    made = cell("memo.verify=2", "ability.tasks=[piqa]", "attacks=[quantise_int4,logit_lens,sample]", "probe=slim")
    # no model of the run is a GGUF file, the facts do not depend on a model, and no language model translates or judges
    goals = [name for name in stages() if name not in ("convert", "probe", "translate", "judge")]
    for goal in goals:
        walk = made.goal(goal)
        assert {artifact.stage for artifact in walk} <= up_to({"score": "verify"}.get(goal, goal))
        seen: set[str] = set()
        for artifact in walk:
            assert artifact.key not in seen
            assert all(need.key in seen for need in artifact.needs.values())
            seen.add(artifact.key)
    labels = {goal: {f"{each.stage} {each.label}".strip() for each in made.goal(goal)} for goal in goals}
    assert labels["finetune"] == {"finetune base", "finetune target", "finetune retain"}
    assert labels["propose"] == {"propose"}
    assert labels["filter"] == {"propose", "filter"}
    measured = {"score target answers", "score target candidates", "score retain answers"}
    checked = {label.replace("score", "verify") for label in measured}
    assert labels["score"] == labels["verify"] == labels["finetune"] | labels["filter"] | measured | checked
    before = {"finetune base", "finetune target", "propose", "filter", "score target candidates"}
    assert labels["unlearn"] == before | {"unlearn unlearned"}
    subjects = [f"{role}{condition}" for role in ("target", "unlearned", "retain") for condition in ("", ATTACKED)]
    attacks = {f"attack {each}" for each in subjects if ATTACKED in each}
    assert labels["attack"] == labels["unlearn"] | {"finetune retain"} | attacks
    read = {f"inspect {role} logit_lens" for role in ("target", "unlearned", "retain")}
    assert labels["inspect"] == labels["unlearn"] | {"finetune retain"} | read
    asked = {f"extract {role} sample" for role in ("target", "unlearned", "retain")}
    assert labels["extract"] == labels["unlearn"] | {"finetune retain"} | asked
    probed = {
        form.format(role) for role in ("target", "unlearned", "retain") for form in ("slim {}", "attack {} proxy")
    }
    assert labels["slim"] == labels["unlearn"] | {"finetune retain"} | probed
    assert labels["predict"] == labels["attack"] | {f"predict {each}" for each in subjects}
    assert labels["ability"] == labels["attack"] | {f"ability {each} piqa" for each in subjects}
    # checks, ability, layers, an attack that asks, proxies with their answers, and all of it after an attack on models
    assert len(made.goal("report")) == len(EVERYTHING) + 4 + 3 + 3 + 3 + 2 * 3 + 3 * 5


def test_a_goal_that_the_method_does_without_is_reported():
    text = r"^goal=filter is invalid: expected a stage of the run tiny-fictional-forget10-grad_ascent-s0: finetune, "
    with pytest.raises(UserError, match=text):
        cell("method=grad_ascent").goal("filter")


def test_an_unknown_goal_is_reported():
    with pytest.raises(UserError, match=r"^goal=reprot is invalid: expected one of convert, finetune, probe, propose"):
        cell().goal("reprot")


def test_more_inverted_facts_than_are_written_are_refused():
    with pytest.raises(
        UserError, match=r"^method.select.k=9 is invalid: expected at most .*, inversion.candidates=8. Did you mean 8"
    ):
        cell("method.select.k=9")
    with pytest.raises(UserError, match=r"^method.select.k=0 is invalid: expected a number from 1 to "):
        cell("method.select.k=0")
    cell("method.select.k=8")


def test_a_mistake_in_the_dataset_keeps_its_own_words():
    with pytest.raises(UserError, match=r"^dataset.split=forget11 is invalid"):
        cell("dataset.split=forget11")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["memo.max_new_tokens=0"], r"^memo.max_new_tokens=0 is invalid"),
        (["memo.stride=five"], r"^memo.stride=five is invalid: expected an integer$"),
        (
            ["memo.cut_unit=word"],
            r"^memo.cut_unit=word is invalid: expected one of characters, words, tokens\. Did you mean words\?$",
        ),
        (["memo.empty_windows=no"], r"^memo.empty_windows=no is invalid: expected one of skip, zero$"),
        (["memo=el", "memo.n=0"], r"^memo.n=0 is invalid: expected a number from 1 to "),
        (["memo=ma", "+memo.stride=5"], r"^memo.stride is not an option of meow_lightning.memo.baselines.Memorization"),
        (["memo.verify=-1"], r"^memo.verify=-1 is invalid: expected a number from 0 to "),
        (["memo.verify=all"], r"^memo.verify=all is invalid: expected an integer$"),
        (["memo.verify=0.5"], r"^memo.verify=0.5 is invalid: expected an integer$"),
        (["~memo.verify"], r"^memo.verify is missing$"),
        (["~memo.stride"], r"^memo.stride is missing: meow_lightning.memo.memo.Profile requires it$"),
    ],
)
def test_a_measure_that_cannot_be_is_refused_before_any_work(words, text):
    with pytest.raises(UserError, match=text):
        cell(*words)


def test_an_architecture_needs_a_target():
    with pytest.raises(UserError, match=r"^model.architecture._target_ is missing$"):
        with_values(options(), {"model.architecture._target_": ...})


def file_of_inverted(path: Path, text: str) -> str:
    path.write_text(f'[{{"question": "Who?", "answers": ["{text}"]}}]')
    return f"inversion.path={path}"


def test_a_file_counts_by_its_content_not_by_its_path(tmp_path):
    one = keys(cell("inversion=file", file_of_inverted(tmp_path / "a", "x")))["filtered"]
    assert keys(cell("inversion=file", file_of_inverted(tmp_path / "b", "x")))["filtered"] == one
    assert keys(cell("inversion=file", file_of_inverted(tmp_path / "a", "y")))["filtered"] != one
    with pytest.raises(UserError, match=r"inversion.path=.*nowhere does not exist"):
        cell("inversion=file", f"inversion.path={tmp_path}/nowhere")


def test_the_name_of_a_run():
    assert options("seed=3", "method=grad_ascent").run_name == "tiny-fictional-forget10-grad_ascent-s3"
    assert cell().name == "tiny-fictional-forget10-meow-s0"


@pytest.mark.parametrize(
    ("said", "table", "model", "value"),
    [
        (0.5, {"default": 1.0}, "tiny", (0.5, "optim.lr")),
        (0, {"default": 1.0}, "tiny", (0, "optim.lr")),
        (None, {"default": 0.25, "tiny": 0.75}, "tiny", (0.75, "method/meow.yaml: lr.tiny")),
        (None, {"default": 0.25, "tiny": 0.75}, "phi15", (0.25, "method/meow.yaml: lr.default")),
        (None, 0.3, "tiny", (0.3, "method.lr")),
    ],
)
def test_a_number_comes_from_optim_else_from_the_methods_table(said, table, model, value):
    assert (
        method_recipe(with_values(options(), {"optim.lr": said, "method.lr": table, "model.name": model}), "lr")
        == value
    )


def test_a_missing_number_is_reported():
    with pytest.raises(UserError, match=r"^optim.lr is null and conf/method/meow.yaml defines no lr; set optim.lr"):
        method_recipe(with_values(options(), {"method.lr": ...}), "lr")
    with pytest.raises(
        UserError, match=r"^method.lr has no entry for tiny and no default \(entries: phi15\); set optim.lr"
    ):
        method_recipe(with_values(options(), {"method.lr": {"phi15": 1.0}}), "lr")


def test_the_report_says_where_every_number_came_from():
    settings = cell("optim.lr=0.5").report.settings
    assert settings["origin"] == {
        "optim.lr": "optim.lr", "optim.epochs": "method/meow.yaml: epochs.tiny",
        "optim.global_batch_size": "method/meow.yaml: global_batch_size.tiny",
    }  # fmt: skip
    assert settings["options"]["optim"]["lr"] == 0.5
    assert settings["options"]["optim"]["epochs"] == options().plain()["method"]["epochs"]["tiny"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("optim.lr=-1", r"^optim.lr=-1 is invalid: expected a number from 0 to "),
        ("optim.global_batch_size=0", r"^optim.global_batch_size=0 is invalid: expected a number from 1 to "),
        ("optim.batch_tokens=0", r"^optim.batch_tokens=0 is invalid: expected a number from 1 to "),
        ("optim.optimizer=sgd", r"^optim.optimizer=sgd is invalid: expected one of adamw, adamw8bit, paged\. Did"),
        ("model.finetune.epochs=-2", r"^model.finetune.epochs=-2 is invalid: expected a number from 0 to "),
        (
            "optim.betas=[0.9,1.5]",
            r"^optim.betas=\[0.9, 1.5\] is invalid: expected numbers above 0 and below 1, not 1.5",
        ),
    ],
)
def test_numbers_out_of_range_are_reported_before_any_work(word, text):
    with pytest.raises(UserError, match=text):
        cell(word)


def test_a_method_on_inverted_facts_without_a_selection_is_reported():
    given = with_values(
        options("optim.lr=1", "optim.epochs=1", "optim.global_batch_size=1"),
        {"method": {"name": "meow", "_target_": "meow_lightning.methods.meow.Meow"}},
    )
    with pytest.raises(UserError, match=r"^method=meow trains on inverted facts, so conf/method/meow.yaml needs"):
        graph(given)


@pytest.mark.parametrize("method", ["meow", "none", "retrain"])
def test_the_default_run_finds_its_numbers_over_seeds(method):
    # A version that moves their digest calls for new seeds, or for a comparison that shows that no number moved.
    report = graph(options(f"method={method}", "seed=3", small=())).report.settings
    assert report.get("spread") is not None, f"measure tiny_fictional.yaml again: its digest now is {report['digest']}"
    assert len(report["spread"]["seeds"]) >= 5
