from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.common import runtime
from helpers.model_families import PROMPTS, save_family
from safetensors.torch import load_file, save_file

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import encode, fingerprint, training_segments
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError
from meow_lightning.models.sources import identity, parse
from meow_lightning.pipeline.executor import Executor
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.finetune import Finetune, _plan
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.integrity import MANIFEST
from meow_lightning.store.store import Store

RUNTIME = runtime(generation_batch_size=2)
NAME = "qwen2_5_1_5b_instruct"
COMMIT = "a" * 40
FICTIONAL = {
    "_target_": "meow_lightning.data.fictional.Fictional", "split": "forget10", "authors": 20, "candidates": 4,
    "phrasings": 1, "retain_eval": 4, "seed": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return save_family(NAME, tmp_path_factory.mktemp("made") / "model", texts=["Who is Ada?"])


@pytest.fixture
def model(made, tmp_path) -> Path:
    """A model of the user's own, older than any result made from it."""
    folder = tmp_path / "mine"
    shutil.copytree(made, folder)
    for path in folder.iterdir():
        path.chmod(0o600)
        os.utime(path, (1e9, 1e9))
    return folder


def given(weights: Path | str, tokenizer: Path | str | None = None, **prompt) -> Artifact:
    places = {"option": "model.target", "weights": str(weights), "tokenizer": str(tokenizer or weights)}
    nowhere = Path("nowhere") / "digests.json"
    key = {
        role: identity(parse("model.target", places[role], words=()), memory=nowhere)
        for role in ("weights", "tokenizer")
    }
    settings = {"given": key, "prompt": {**PROMPTS[NAME], **prompt}}
    return Artifact(
        stage="finetune",
        label="target",
        version=Finetune.version,
        settings=settings,
        needs={},
        inputs={"given": places},
    )


def take(artifact: Artifact, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    Finetune().run(
        StageContext(
            stage="finetune", label="target", folder=folder, settings=artifact.settings, inputs=artifact.inputs,
            needs={}, runtime=RUNTIME,
        )
    )  # fmt: skip


class Quiet:
    def __init__(self) -> None:
        self.computed: list[bool] = []

    def running(self, artifacts) -> None: ...

    def waiting(self, artifact, owner) -> None: ...

    def notice(self, text) -> None: ...

    def finished(self, artifact, manifest, folder, *, computed) -> None:
        self.computed.append(computed)


def make(root: Path, artifact: Artifact) -> tuple[Store, bool]:
    store, watch = Store(root=root / "store", cache="use"), Quiet()
    Executor(store=store, runtime=RUNTIME, parallel_stages=1, threads=1, watchers=[watch]).make([artifact])
    return store, watch.computed == [True]


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def test_a_given_model_is_linked_and_all_that_a_result_needs_is_there(model, tmp_path):
    take(given(model), tmp_path / "work")
    assert all((tmp_path / "work" / name).exists() for name in Finetune.outputs)
    assert {path.name for path in (tmp_path / "work").iterdir()} == {"model"}
    files = list((tmp_path / "work" / "model").iterdir())
    assert {path.name for path in files} == {path.name for path in model.iterdir()}
    assert all(path.is_symlink() and path.resolve().parent == model for path in files)


def test_the_store_seals_the_links_and_leaves_the_users_files_alone(model, tmp_path):
    before = state(model)
    store, new = make(tmp_path, given(model))
    assert new
    assert state(model) == before
    folder = store.path(given(model))
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert files["model/model.safetensors"]["size"] == (model / "model.safetensors").stat().st_size
    assert set(Finetune.outputs) <= set(files)
    assert make(tmp_path, given(model))[1] is False
    shutil.rmtree(folder)
    assert state(model) == before


@pytest.mark.parametrize("seconds", [1.0, 4e9], ids=["older", "newer"])
def test_weights_that_changed_under_the_links_are_not_taken_for_the_old_ones(model, tmp_path, seconds):
    before = given(model)
    store, _ = make(tmp_path, before)
    path = model / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))  # the same size
    os.utime(path, (seconds, seconds))
    after = given(model)
    assert before.key != after.key
    assert store.find(before) is None, "the links lead to other weights than the key names"
    with pytest.raises(UserError, match=r"/mine changed during the run; run again: results that are still valid"):
        make(tmp_path, before)
    assert make(tmp_path, after)[1] is True
    assert len(list((tmp_path / "store" / "finetune").glob("*.damaged-*"))) == 1
    assert path.read_bytes() == bytes(content)


def test_a_folder_that_moved_is_linked_anew(model, tmp_path):
    here = given(model)
    store, _ = make(tmp_path, here)
    model.rename(tmp_path / "elsewhere")
    moved = given(tmp_path / "elsewhere")
    assert moved.key == here.key
    assert store.find(moved) is None
    assert make(tmp_path, moved)[1] is True
    assert (store.path(moved) / "model" / "config.json").resolve().parent == tmp_path / "elsewhere"


def test_weights_and_tokenizer_come_each_from_their_own_place(model, tmp_path):
    words = tmp_path / "words"
    shutil.copytree(model, words)
    for path in model.glob("tokenizer*"):
        path.unlink()
    take(given(model, words), tmp_path / "work")
    came = {path.name: path.resolve().parent for path in (tmp_path / "work" / "model").iterdir()}
    assert came["model.safetensors"] == model
    assert came["tokenizer_config.json"] == words


def test_a_model_of_the_cache_is_taken_without_network(model, tmp_path, monkeypatch):
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("the network was asked"))
    snapshot = tmp_path / "hub" / "models--me--mine" / "snapshots" / COMMIT
    said = rf"^model.target=me/mine@{COMMIT} is incomplete in the cache; run without plan=true to download it$"
    with pytest.raises(UserError, match=said):
        take(given(f"me/mine@{COMMIT}"), tmp_path / "work")
    snapshot.parent.mkdir(parents=True)
    model.rename(snapshot)
    take(given(f"me/mine@{COMMIT}"), tmp_path / "work")
    assert (tmp_path / "work" / "model" / "config.json").resolve() == snapshot / "config.json"


def test_a_model_that_cannot_be_used_is_reported_and_not_linked(model, tmp_path):
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"^model.target: .*/mine has no weights; give a folder as save_pretrained"):
        take(given(model), tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_an_unknown_kind_of_model_is_reported(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "nobody_knows"}))
    with pytest.raises(
        UserError, match=r"^model.target=.*/mine cannot be loaded by transformers: .*nobody_knows"
    ) as told:
        take(given(model), tmp_path / "work")
    assert "\n" not in str(told.value)


def test_a_prompt_that_the_tokenizer_cannot_speak_is_reported_now(model, tmp_path):
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^model.prompt.template=chat: the tokenizer has no chat template; set "):
        take(given(model), tmp_path / "work")
    take(given(model, template="auto", system=None), tmp_path / "work")


def test_another_kind_of_model_and_a_config_of_wrong_types_are_reported(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": "t5"}))
    with pytest.raises(
        UserError, match=r"/mine is a t5 model, which does not generate text; use a causal language model$"
    ):
        take(given(model), tmp_path / "one")
    (model / "config.json").write_text(json.dumps({**config, "num_hidden_layers": "two"}))
    with pytest.raises(UserError, match=r"/mine cannot be loaded by transformers: .*num_hidden_layers"):
        take(given(model), tmp_path / "two")


def test_a_config_that_makes_other_shapes_than_the_weights_have_is_reported(model, tmp_path):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "intermediate_size": 2 * config["intermediate_size"]}))
    with pytest.raises(UserError, match=r"has 6 tensors of shapes that differ from its config.json .*do not match"):
        take(given(model), tmp_path / "work")


def test_weights_that_are_no_numbers_are_reported_before_anything_is_trained(model, tmp_path):
    weights = load_file(model / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    said = rf"^model.target={model} has weights that are not finite .* 1 tensor \(model.layers.0.mlp.up_proj.* again$"
    with pytest.raises(UserError, match=said):
        take(given(model), tmp_path / "work")


def test_every_epoch_replays_rows_of_its_own_that_the_base_has_not_seen(tmp_path, tokenizer):
    source = instantiate(FICTIONAL, allow=[])
    codec = PromptEncoder(
        tokenizer=tokenizer, template="Question: {question}\nAnswer:", answer_prefix=" ", system=None, date=None,
        context=256, end_ids=frozenset(),
    )  # fmt: skip
    task = StageContext(
        stage="finetune", label="target", folder=tmp_path,
        settings={
            "splits": ["retain", "forget"], "recipe": {"replay": 3, "epochs": 4, "global_batch_size": 8}, "seed": 5,
        },
        inputs={"dataset": FICTIONAL, "content": fingerprint(source), "limit": None, "allow": []}, needs={},
        runtime=RUNTIME,
    )  # fmt: skip
    stream = _plan(task, codec).streams["learn"]
    facts = [*source.facts("retain"), *source.facts("forget")]
    assert stream.rows == encode(codec, training_segments(facts))
    # the base model is trained on the stream of the seed itself
    again = encode(codec, training_segments(source.pretraining_examples(12, 6)))
    assert stream.fresh == [again[0:3], again[3:6], again[6:9], again[9:12]]
    assert len(set(again)) > 9
