from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.hydra import composed, keys, named, with_values
from huggingface_hub import HfApi

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.validation import resolved
from meow_lightning.errors import UserError
from meow_lightning.pipeline.build import graph
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.nodes.model_roles import Roles

SMALL = ("dataset.authors=12", "dataset.retain_eval=8", "model.finetune.replay=2")
COMMIT, OTHER = "a" * 40, "b" * 40
TINY_OUTPUT = {"target", "retain", "unlearned"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.chdir(tmp_path)


def options(*words: str) -> RunConfig:
    return resolved(composed(*words))


def roles(*words: str) -> Roles:
    return Roles(options(*words))


def cell(*words: str) -> RunGraph:
    return graph(options("model=own", *SMALL, *words))


def folder(path: Path, text: str = "", *, tokenizer: bool = True) -> Path:
    """A model's folder with no weight in it; ``text`` tells its content from others'."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"vocab_size": 4, "name": text}))
    head = json.dumps({"__metadata__": {"name": text or path.name}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    if tokenizer:
        (path / "tokenizer.json").write_text('{"model": {"vocab": {"x": 0}}}')
        (path / "tokenizer_config.json").write_text('{"eos_token": "x"}')
    return path


def places(given: Any) -> tuple[str, str]:
    return str(given.weights), str(given.tokenizer)


LLAMA = ("model=llama3_2_1b_instruct",)


@pytest.mark.parametrize(("split", "retain"), [("forget01", "99"), ("forget05", "95"), ("forget10", "90")])
def test_published_models_are_those_of_dataset_and_split(split, retain):
    found = roles(*LLAMA, f"dataset.split={split}")
    assert found.target is not None
    assert found.retain is not None
    assert found.target.weights.repository == "open-unlearning/tofu_Llama-3.2-1B-Instruct_full"
    assert found.retain.weights.repository == f"open-unlearning/tofu_Llama-3.2-1B-Instruct_retain{retain}"
    assert found.target.released
    assert found.target.key["weights"] == str(found.target.weights)
    assert found.retain_missing_reason is None
    assert found.notes() == []  # of one maker


def test_models_without_a_published_checkpoint_are_trained_here():
    found = roles(*LLAMA, "dataset=fictional")
    assert (found.target, found.retain, found.retain_missing_reason, found.notes()) == (None, None, None, [])
    assert found.base is not None
    qwen = roles("model=qwen2_5_1_5b_instruct")
    assert (qwen.target, qwen.retain) == (None, None)


def test_a_published_target_beside_a_retain_model_made_here_compares_recipes():
    found = roles("model=phi15")
    assert found.retain is None
    assert found.target is not None
    target, tokenizer = places(found.target)
    assert target == "locuslab/tofu_ft_phi-1.5@c34da369771ff53cf722344bc912fd9913f67da7"
    assert tokenizer == "microsoft/phi-1_5@675aa382d814580b22651a30acb1a585d7c25963"
    assert found.notes() == [
        f"The target model is {target}, the retain model was fine-tuned here: forget quality also compares "
        "their training recipes."
    ]


def test_null_makes_what_is_published_here():
    found = roles(*LLAMA, "model.target=null", "model.retain=null")
    assert (found.target, found.retain, found.retain_missing_reason) == (None, None, None)


def test_a_retain_model_of_others_beside_a_target_made_here_compares_recipes_too():
    found = roles(*LLAMA, "model.target=null")
    assert found.retain is not None
    assert found.notes() == [
        f"The target model was fine-tuned here, the retain model is {found.retain.weights}: forget quality also "
        "compares their training recipes."
    ]


def test_models_of_two_makers_compare_recipes(tmp_path):
    mine = folder(tmp_path / "mine")
    found = roles(*LLAMA, f"model.retain={mine}")
    assert found.target is not None
    assert found.notes() == [
        f"The target model is {found.target.weights}, the retain model is {mine}: forget quality also "
        "compares their training recipes."
    ]
    theirs = roles("model=own", f"model.target={mine}", f"model.retain={folder(tmp_path / 'two')}")
    assert len(theirs.notes()) == 1  # of the same place, but nobody says by the same recipe


def test_a_mistake_in_the_table_of_published_models_is_reported():
    with pytest.raises(
        UserError, match=r"^model.released_checkpoints.tofu.retian is not an option. Did you mean retain\?"
    ):
        with_values(options(*LLAMA), {"model.released_checkpoints.tofu.retian": {}})


def test_none_is_no_retain_model(tmp_path):
    found = roles("model=own", f"model.target={folder(tmp_path / 'a')}", "model.retain=none")
    assert found.retain_missing_reason == "there is no retain model (model.retain=none)"
    assert found.notes() == []
    assert roles("model.retain=none").retain_missing_reason is not None


def test_a_target_alone_says_why_there_is_no_retain_model(tmp_path):
    found = roles("model=own", f"model.target={folder(tmp_path / 'a')}")
    assert found.retain_missing_reason == (
        "there is no retain model: only model.target is provided; set model.retain=FOLDER (a model that never saw the "
        "forget set) or model.base=FOLDER to fine-tune one here"
    )


def test_no_way_to_a_target_model_is_reported():
    text = r"^model=own needs model.target=FOLDER \(a model that knows the facts\) or model.base=FOLDER \(one to fi"
    with pytest.raises(UserError, match=text):
        roles("model=own")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.base=released", r"^model.base=released is invalid: expected a folder, a GGUF file, a hub id such as "),
        ("model.target=release", r"^model.target=release is invalid: .* or null\. Did you mean released\?$"),
        ("model.retain=nome", r"^model.retain=nome is invalid: .*, released, none or null\. Did you mean none\?$"),
        ("model.target=none", r"^model.target=none is invalid: .*, released or null$"),
        ("model.tokenizer=nowhere model.base=me/mine@" + COMMIT, r"^model.tokenizer=nowhere is invalid: expected"),
        ("model.target=", r"^model.target= is invalid: expected"),
    ],
)  # fmt: skip
def test_invalid_role_values_are_reported(word, said):
    with pytest.raises(UserError, match=said):
        roles("model=own", *word.split())


def test_a_folder_keeps_its_own_tokenizer_before_a_hub_id(tmp_path):
    mine = folder(tmp_path / "mine")
    found = roles("model=phi15", f"model.target={mine}")
    assert places(found.target) == (str(mine), str(mine))
    bare = folder(tmp_path / "bare", tokenizer=False)
    found = roles("model=phi15", f"model.target={bare}")
    assert places(found.target) == (str(bare), "microsoft/phi-1_5@675aa382d814580b22651a30acb1a585d7c25963")


def test_a_tokenizer_folder_that_is_reported_counts(tmp_path):
    mine, words = folder(tmp_path / "mine"), folder(tmp_path / "words", "other")
    found = roles("model=own", f"model.target={mine}", f"model.tokenizer={words}")
    assert places(found.target) == (str(mine), str(words))


@pytest.mark.parametrize(
    "harm",
    [{"tokenizer_config.json": '{"tokenizer_class": "TokenizersBackend"}'}, {"config.json": '{"vocab_size": 0}'}],
)
def test_the_way_out_of_a_tokenizer_that_cannot_be_used_works_with_a_hub_id_too(tmp_path, harm):
    mine = folder(tmp_path / "mine")
    for name, text in harm.items():
        (mine / name).write_text(text)
    found = roles("model=own", f"model.target={mine}", f"model.tokenizer=me/words@{COMMIT}")
    assert places(found.target) == (str(mine), f"me/words@{COMMIT}")


def test_a_branch_is_its_commit_from_the_first_look_on(monkeypatch):
    asked = []

    def model_info(_, repository: str, **words: Any) -> Any:
        asked.append((repository, words["revision"]))
        return SimpleNamespace(sha=COMMIT if len(asked) == 1 else OTHER)

    monkeypatch.setattr(HfApi, "model_info", model_info)
    found = roles("model=own", "model.target=me/mine@dev")
    assert found.target is not None
    assert found.target.key == {"weights": f"me/mine@{COMMIT}", "tokenizer": f"me/mine@{COMMIT}"}
    assert places(found.target) == (f"me/mine@{COMMIT}", f"me/mine@{COMMIT}")
    assert asked == [("me/mine", "dev")]


def test_a_folder_is_read_once_even_where_nothing_can_be_remembered(tmp_path, monkeypatch):
    real, read = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or real(file, kind))
    roles("model=own", f"model.target={folder(tmp_path / 'mine')}", f"store={tmp_path}/none/store")
    assert len(read) == len(set(read)) == 4


# ---- the graph


def models(made: RunGraph) -> dict[str, str]:
    """What of the models the graph holds: given here, or made of what."""
    return {
        name: "given" if "given" in artifact.settings else f"{artifact.stage} of {','.join(artifact.needs)}".strip()
        for name, artifact in named(made).items()
        if artifact.stage in ("finetune", "unlearn")
    }


MADE = "finetune of start"
ASCENT = ("method=grad_ascent", "optim.lr=1e-4", "optim.epochs=1", "optim.global_batch_size=4")


def test_with_a_target_alone_there_is_no_retain_model_and_the_results_say_why(tmp_path):
    made = cell(*ASCENT, f"model.target={folder(tmp_path / 'a')}")
    assert models(made) == {"target": "given", "unlearned": "unlearn of start"}
    assert not [name for name in named(made) if "retain" in name]
    absent = made.results.settings["absent"]
    assert absent["retain"].startswith("there is no retain model: only model.target is provided")
    assert {artifact.label for artifact in made.goal("finetune")} == {"target"}


def test_with_a_base_both_are_made_from_it(tmp_path):
    made = cell(*ASCENT, f"model.base={folder(tmp_path / 'a')}")
    assert models(made) == {"base": "given", "target": MADE, "retain": MADE, "unlearned": "unlearn of start"}
    assert made.models.target.needs["start"].key == made.models.base.key
    assert "absent" not in made.results.settings


def test_with_target_and_base_the_retain_model_is_made_from_the_base(tmp_path):
    made = cell(*ASCENT, f"model.target={folder(tmp_path / 'a')}", f"model.base={folder(tmp_path / 'b', 'b')}")
    assert models(made) == {"base": "given", "target": "given", "retain": MADE, "unlearned": "unlearn of start"}
    assert made.models.target.needs == {}
    assert (
        len(made.report.settings["notes"]) - len(cell(*ASCENT, f"model.base={tmp_path}/b").report.settings["notes"])
        == 1
    )


def test_with_target_and_retain_nothing_is_fine_tuned(tmp_path):
    made = cell(*ASCENT, f"model.target={folder(tmp_path / 'a')}", f"model.retain={folder(tmp_path / 'b', 'b')}")
    assert models(made) == {"target": "given", "retain": "given", "unlearned": "unlearn of start"}
    assert made.models.target.key != made.models.retain.key
    assert made.evaluation.predictions["retain"].needs["model"].key == made.models.retain.key


def test_a_base_model_that_is_not_trained_is_left_out(tmp_path):
    words = [f"model.{role}={folder(tmp_path / role, role)}" for role in ("base", "target", "retain")]
    assert set(models(cell(*ASCENT, *words))) == TINY_OUTPUT


def test_none_leaves_the_retain_model_out(tmp_path):
    made = cell(*ASCENT, f"model.base={folder(tmp_path / 'a')}", "model.retain=none")
    assert models(made) == {"base": "given", "target": MADE, "unlearned": "unlearn of start"}
    assert made.results.settings["absent"] == {"retain": "there is no retain model (model.retain=none)"}


def test_a_given_model_counts_by_its_content_not_by_its_path_or_option(tmp_path):
    one = cell(*ASCENT, f"model.target={folder(tmp_path / 'a', 'x')}")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    moved = cell(*ASCENT, f"model.target={tmp_path}/b")
    assert {name for name, key in keys(one).items() if keys(moved)[name] != key} == {"report"}  # which shows the path
    assert moved.models.target.inputs["given"]["weights"] == str(tmp_path / "b")
    other = cell(*ASCENT, f"model.target={folder(tmp_path / 'c', 'y')}")
    assert {name for name, key in keys(one).items() if keys(other)[name] == key} == set()


def test_the_targets_weights_are_no_base_and_no_retain_model(tmp_path):
    target = folder(tmp_path / "a", "x")
    copied = Path(shutil.copytree(target, tmp_path / "b"))
    (copied / "config.json").write_text('{"vocab_size": 4, "saved": "again"}')  # only the weights count
    with pytest.raises(UserError) as seen:
        roles("model=own", f"model.target={target}", f"model.retain={copied}")
    assert str(seen.value) == (
        f"model.retain={copied} holds the same weights as model.target={target}: forget quality would compare the "
        "model with itself; set model.retain to a model that never saw the forget set, or model.retain=none"
    )
    with pytest.raises(UserError, match=rf"^model.base={copied} holds the same weights as model.target={target}: a mo"):
        roles("model=own", f"model.target={target}", f"model.base={copied}")
    other = folder(tmp_path / "c", "y")
    assert roles("model=own", f"model.target={target}", f"model.retain={other}").notes() != []
    assert roles("model=own", f"model.base={target}", f"model.retain={copied}").target is None  # a base may be both


def test_a_published_retain_model_that_is_the_target_is_noted(tmp_path):
    target = folder(tmp_path / "a", "x")
    copied = shutil.copytree(target, tmp_path / "b")
    chosen = with_values(
        options("model=own", "dataset=fictional", "model.target=released", "model.retain=released"),
        {"model.released_checkpoints": {"fictional": {"target": str(target), "retain": {"forget10": str(copied)}}}},
    )
    (note,) = Roles(chosen).notes()
    assert note.startswith(f"The published retain model {copied} has the same weights as the target model, so forget")


def test_weights_of_the_hub_are_known_by_the_names_of_its_cache(tmp_path, monkeypatch):
    import huggingface_hub

    target = folder(tmp_path / "a", "x")
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--nobody--same" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    blob = snapshot.parent.parent / hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()
    blob.touch()  # its name says what it holds: gigabytes are not read
    (snapshot / "model.safetensors").symlink_to(blob)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="holds the same weights as"):
        roles("model=own", f"model.target={target}", f"model.retain=nobody/same@{commit}")


def test_another_tokenizer_or_prompt_is_another_given_model(tmp_path):
    mine, words = folder(tmp_path / "a"), folder(tmp_path / "b", "other")
    target = {
        cell(*ASCENT, f"model.target={mine}", *more).models.target.key
        for more in ((), (f"model.tokenizer={words}",), ('model.prompt.template="{question}?"',))
    }
    assert len(target) == 3


def test_the_base_model_writes_inverted_facts_and_must_exist(tmp_path):
    mine, base = folder(tmp_path / "a", "a"), folder(tmp_path / "b", "b")
    made = cell("inversion=self", f"model.target={mine}", f"model.base={base}")
    assert made.rounds[0].proposed.needs["teacher"].inputs["given"]["weights"] == str(base)
    with pytest.raises(
        UserError, match=r"^inversion=self is invalid: expected a run with a base model.* inversion=rules, which"
    ):
        cell("inversion=self", f"model.target={mine}", f"model.retain={base}")


def test_the_target_model_writes_inverted_facts(tmp_path):
    made = cell("method=altpo", "inversion=target", f"model.target={folder(tmp_path / 'a')}")
    assert made.rounds[0].proposed.needs["teacher"].key == made.models.target.key
    assert made.models.unlearned.needs["start"].key == made.models.target.key


def test_a_selection_with_a_baseline_that_the_run_lacks_is_reported(tmp_path: Path):
    mine = folder(tmp_path / "target")
    with pytest.raises(UserError, match=r"^method\.select\.baseline=base needs a base model, but only the target"):
        cell("inversion=rules", f"model.target={mine}", "method.select.baseline=base")
    with pytest.raises(UserError, match=r"^method\.select\.baseline=retain needs a retain model, but .* or method\."):
        cell("inversion=rules", f"model.target={mine}", "method.select.baseline=retain")


def test_retrain_without_a_retain_model_is_reported(tmp_path):
    mine = folder(tmp_path / "a")
    text = (
        r"^method=retrain starts from the retain model, but there is no retain model: only model.target is provided; "
    )
    with pytest.raises(UserError, match=text):
        cell("method=retrain", f"model.target={mine}")
    text = r"^method=retrain starts from the retain model, but there is no retain model \(model.retain=none\)$"
    with pytest.raises(UserError, match=text):
        cell("method=retrain", f"model.base={mine}", "model.retain=none")
    made = cell("method=retrain", f"model.target={mine}", f"model.retain={folder(tmp_path / 'b', 'b')}")
    assert made.models.unlearned.key == made.models.retain.key


def facts(path: Path, what: str) -> Path:
    rows = [{"question": f"How far is {what} {i}?", "answer": f"It is {1000 + i} miles away."} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_method_that_trains_on_retained_facts_needs_some(tmp_path):
    words = [
        "model=own", "dataset=jsonl", f"dataset.forget={facts(tmp_path / 'forget.jsonl', 'Lima')}",
        f"model.target={folder(tmp_path / 'a')}", "method=grad_diff", "optim.lr=1e-4", "optim.epochs=1",
        "optim.global_batch_size=4",
    ]  # fmt: skip
    text = (
        r"^method=grad_diff trains on the retain set, but dataset=jsonl has none; provide one, or choose a method that "
    )
    with pytest.raises(UserError, match=text):
        graph(options(*words))
    made = graph(options(*words, f"dataset.retain={facts(tmp_path / 'retain.jsonl', 'Rome')}"))
    assert set(made.models.unlearned.settings["rows"]) == {"forget", "retain"}
