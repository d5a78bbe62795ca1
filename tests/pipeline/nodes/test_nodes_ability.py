"""Ability tasks in the graph of a run: what adds them, what their keys depend on, and mistakes before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers.hydra import cell, composed, keys, named
from helpers.quiz import CHOICE, FILES, write_quiz

from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.planning.ability import check_abilities
from meow_lightning.store.store import Store


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of questions under the names of the shipped tasks."""
    for file in ("nlu/piqa/dev.jsonl", "nlu/arc/ARC-Easy-Dev.jsonl", "nlu/arc/ARC-Easy-Test.jsonl"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "nlu/piqa/dev.jsonl").write_text('{"goal": "g", "sol1": "a", "sol2": "b"}\n' * 4)
    (tmp_path / "nlu/piqa/dev-labels.lst").write_text("0\n1\n" * 2)
    question = '{"question": {"stem": "s", "choices": [{"text": "t", "label": "A"}]}, "answerKey": "A"}\n'
    (tmp_path / "nlu/arc/ARC-Easy-Dev.jsonl").write_text(question)
    (tmp_path / "nlu/arc/ARC-Easy-Test.jsonl").write_text(question * 3)
    monkeypatch.setenv("MEOW_DATA_DIR", str(tmp_path))
    return tmp_path


def abilities(made: RunGraph) -> dict[str, str]:
    return {artifact.title: artifact.key for artifact in made.evaluation.abilities.values()}


def test_by_default_nothing_is_computed_and_a_task_moves_only_the_numbers(data: Path) -> None:
    before, after = keys(cell()), keys(cell("ability=piqa"))
    assert not cell().evaluation.abilities
    added = {f"ability/{role}/piqa" for role in ("target", "unlearned", "retain")}
    assert after.keys() - before.keys() == added
    assert {name for name in before if before[name] != after[name]} == {"results", "report"}


def test_every_model_of_the_run_gets_every_task(data: Path) -> None:
    made = cell("ability=piqa", "ability.tasks=[piqa,piqa,hellaswag]")
    assert [*abilities(made)] == [
        f"ability {role} {task}" for task in ("piqa", "hellaswag") for role in ("target", "unlearned", "retain")
    ]
    assert {artifact.needs["model"].title for artifact in made.evaluation.abilities.values()} == {
        "finetune target", "unlearn unlearned", "finetune retain",
    }  # fmt: skip
    assert {artifact.stage for artifact in made.goal("ability")} >= {"finetune", "unlearn", "ability"}
    assert "predict" not in {artifact.stage for artifact in made.goal("ability")}


def test_the_key_follows_from_questions_definition_limit_examples_and_version(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(*words: str) -> str:
        return abilities(cell("ability=piqa", *words))["ability target piqa"]

    before = key()
    same = ("trainer.eval_batch_size=3", f"ability.folder={data}", "evaluation.max_new_tokens=3", "ability.name=other")
    assert {key(word) for word in same} == {before}
    others = [key("ability.limit=3"), key("ability.num_fewshot=2"), key("ability.local.piqa.doc_to_text='{{goal}}'")]
    monkeypatch.setattr("meow_lightning.pipeline.nodes.ability.harness_version", lambda: "0.4.14")
    others.append(key())
    monkeypatch.undo()
    monkeypatch.setenv("MEOW_DATA_DIR", str(data))
    (data / "nlu/piqa/dev-labels.lst").write_text("1\n1\n" * 2)
    others.append(key())
    assert len({before, *others}) == 1 + len(others)


def test_the_key_of_one_task_does_not_depend_on_the_others(data: Path) -> None:
    one, many = abilities(cell("ability=piqa")), abilities(cell("ability=general"))
    assert one.items() <= many.items()


def test_a_task_without_its_files_is_unmeasured_with_the_reason(data: Path, tmp_path: Path) -> None:
    made = cell("ability=general")  # ARC-Challenge has no files here
    assert {task for _, task in made.evaluation.abilities} == {"piqa", "arc_easy"}
    (unmeasured,) = made.results.settings["unmeasured"]
    assert unmeasured["task"] == "arc_challenge"
    assert [*unmeasured["metrics"]] == ["acc", "acc_norm"]
    assert "nlu/arc/ARC-Challenge-Dev.jsonl" in unmeasured["reason"]
    (note,) = check_abilities([made.results], Store(root=tmp_path / "store", cache="use"))
    assert note.startswith("arc_challenge is not measured: ")


def test_tasks_that_will_run_are_loaded_before_any_work(data: Path, tmp_path: Path) -> None:
    store = Store(root=tmp_path / "store", cache="use")
    assert check_abilities(cell("ability=piqa").goal("ability"), store) == []
    (data / "nlu/piqa/dev-labels.lst").write_text("0\n")
    with pytest.raises(UserError, match=r"ability\.local\.piqa\.data"):
        check_abilities(cell("ability=piqa").goal("ability"), store)


def test_the_questions_count_for_the_estimates(data: Path) -> None:
    from meow_lightning.stages.ability import question_count

    def counted(*words: str) -> int:
        return question_count(named(cell(*words))["ability/target/piqa"])

    assert counted("ability=piqa") == 4
    assert counted("ability=piqa", "ability.limit=3") == 3
    assert counted("ability=piqa", "ability.limit=9") == 4
    hub = cell("ability.tasks=[hellaswag]", "ability.limit=7").evaluation.abilities["target", "hellaswag"]
    assert question_count(hub) == 7


@pytest.mark.parametrize(
    ("words", "named_option", "suggested"),
    [
        (("ability=piqa", "+ability.local.piqa.doc_to_txt=x"), "ability.local.piqa.doc_to_txt", "doc_to_text"),
        (("ability=piqa", "ability.local.piqa.validation_split=validate"), "validation_split=validate", "validation"),
        (("ability=piqa", "ability.limit=0"), "ability.limit=0", ""),
        (("ability=piqa", "ability.tasks=piqa"), "ability.tasks=piqa", ""),
        (("ability=piqa", "+ability.limits=3"), "ability.limits", "limit"),
    ],
)
def test_a_mistake_is_named_while_the_graph_is_built(
    data: Path, words: tuple[str, ...], named_option: str, suggested: str
) -> None:
    with pytest.raises(UserError) as caught:
        cell(*words)
    assert named_option in str(caught.value)
    assert suggested in str(caught.value)


def test_the_goal_without_a_task_says_what_to_set() -> None:
    with pytest.raises(UserError, match="ability=general"):
        cell().goal("ability")


def test_without_the_harness_the_graph_is_refused_and_runs_without_a_task_are_not(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meow_lightning.evaluation.ability.PACKAGE", "lm_eval_that_is_not_installed")
    cell()
    with pytest.raises(UserError, match=r"meow-lightning\[ability\]"):
        cell("ability=piqa")


def test_a_new_task_is_one_yaml_file(tmp_path: Path) -> None:
    """The file lies outside the package; no list names it."""
    write_quiz(tmp_path / "data")
    node = {
        "name": "quiz", "tasks": ["quiz"], "limit": None, "num_fewshot": None, "folder": str(tmp_path / "data"),
        "local": {"quiz": {"data": FILES, **CHOICE}},
    }  # fmt: skip
    (tmp_path / "conf" / "ability").mkdir(parents=True)
    (tmp_path / "conf" / "ability" / "quiz.yaml").write_text(yaml.safe_dump(node))
    made = graph(resolved(composed(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "ability=quiz")))
    assert {task for _, task in made.evaluation.abilities} == {"quiz"}
    assert check_abilities(made.goal("ability"), Store(root=tmp_path / "store", cache="use")) == []


@pytest.fixture
def text(data: Path) -> Path:
    """Running text under the names of WikiText-2's files."""
    (data / "nlg/wikitext-2").mkdir(parents=True)
    for name in ("valid", "test"):
        (data / f"nlg/wikitext-2/{name}.txt").write_text(f" = T = \n\n {'A long sentence about the sea . ' * 12}\n" * 3)
    return data


def test_continuations_take_their_features_from_the_target_model_also_after_an_attack(text: Path) -> None:
    made = cell("ability=nlg", "attacks=quantise_int4")
    plain = [each for (_, task), each in made.evaluation.abilities.items() if task == "nlg"]
    attacked = [*made.evaluation.attacked["quantise_int4"].abilities.values()]
    assert len(plain) == len(attacked) == 3
    assert {each.needs["features"].title for each in (*plain, *attacked)} == {"finetune target"}
    assert {each.needs["model"].stage for each in attacked} == {"attack"}
    assert plain[0].inputs["amount"] == [6, 0]


def test_the_key_of_continuations_follows_from_text_options_limit_and_features(text: Path, tmp_path: Path) -> None:
    def key(*words: str) -> str:
        return abilities(cell("ability=nlg", *words))["ability target nlg"]

    before, option = key(), "ability.local.nlg"
    assert {key(word) for word in ("trainer.eval_batch_size=3", f"ability.folder={text}", "ability.name=x")} == {before}
    others = [
        key("ability.limit=3"), key(f"{option}.prompt_tokens=8"), key(f"{option}.features=null"),
        key(f"{option}.mauve_scaling_factor=2"),
    ]  # fmt: skip
    (text / "nlg/wikitext-2/test.txt").write_text(" Other words . \n")
    others.append(key())
    assert len({before, *others}) == 1 + len(others)


def test_a_given_model_of_features_is_a_need_and_its_folder_no_part_of_the_key(text: Path, tmp_path: Path) -> None:
    def made(folder: Path) -> RunGraph:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        (folder / "model.safetensors").write_bytes(b"weights")
        return cell("ability=nlg", f"ability.local.nlg.features={folder}")

    one, other = made(tmp_path / "a" / "gpt2"), made(tmp_path / "b" / "gpt2")
    assert abilities(one) == abilities(other)
    artifact = one.evaluation.abilities["target", "nlg"]
    assert artifact.settings["config"]["features"] == "gpt2"
    assert artifact.needs["features"].title == "finetune features"


def test_continuations_without_their_text_are_unmeasured(data: Path) -> None:
    (unmeasured,) = cell("ability=nlg").results.settings["unmeasured"]
    assert [*unmeasured["metrics"]] == ["mauve", "bleu", "rep3", "perplexity"]
    assert [*unmeasured["lower"]] == ["rep3", "perplexity"]
    assert "nlg/wikitext-2/valid.txt" in unmeasured["reason"]


@pytest.mark.parametrize(
    ("word", "named_option", "suggested"),
    [
        ("+ability.local.nlg.prompt_token=3", "ability.local.nlg.prompt_token", "prompt_tokens"),
        ("ability.local.nlg.prompt_tokens=0", "ability.local.nlg.prompt_tokens=0", "1"),
        ("ability.local.nlg.data=null", "ability.local.nlg.data", ""),
        ("ability.local.nlg.features=taget", "ability.local.nlg.features=taget", "target"),
    ],
)
def test_a_mistake_in_a_task_of_our_own_is_named(text: Path, word: str, named_option: str, suggested: str) -> None:
    with pytest.raises(UserError) as caught:
        cell("ability=nlg", word)
    assert named_option in str(caught.value)
    assert suggested in str(caught.value)


def test_the_published_scoring_and_all_of_meows_abilities_are_choices(text: Path) -> None:
    published = cell("ability=nlg_official").evaluation.abilities["target", "nlg_official"].settings["config"]
    assert (published["compared"], published["mauve_scaling_factor"]) == ("published", 2)
    assert {task for _, task in cell("ability=meow").evaluation.abilities} == {"piqa", "arc_easy", "nlg"}
