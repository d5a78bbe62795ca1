from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import check, check_tokenizer_fits
from meow_lightning.models.pretrained_folder import (
    embeddings,
    header,
    largest_id,
    link,
    missing_tokenizer,
    parameters,
    problem,
    read,
    shards,
)

OPTION = "model.target"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def tensors(path: Path, **shapes: list[int]) -> Path:
    """A safetensors file of float32 zeros, written by hand."""
    head: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, size = end, 4
        for length in shape:
            size *= length
        end = begin + size
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


def put(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def model(tmp_path) -> Path:
    """A whole model of ten embeddings whose tokenizer knows nine tokens."""
    folder = tmp_path / "model"
    folder.mkdir()
    put(folder / "config.json", {"vocab_size": 10})
    tensors(folder / "model.safetensors", a=[2, 3], b=[4])
    put(folder / "tokenizer.json", {"model": {"vocab": {"x": 0, "y": 7}}, "added_tokens": [{"id": 8}]})
    put(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "y"})
    return folder


def told(model: Path, tokenizer: Path | None = None) -> str:
    with pytest.raises(UserError) as error:
        check(OPTION, model, tokenizer or model)
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(model), "MODEL")


def test_a_whole_model_is_accepted_and_counted(model):
    check(OPTION, model, model)
    assert problem(model) is None
    assert missing_tokenizer(model) is None
    assert parameters(model) == 2 * 3 + 4
    assert sorted(header(model / "model.safetensors")) == ["__metadata__", "a", "b"]
    assert (embeddings(model), largest_id(model)) == (10, 8)


def test_tables_of_old_checkpoints_are_no_weights(model):
    tensors(
        model / "model.safetensors",
        **{"w": [5], "h.0.rotary_emb.inv_freq": [8], "h.0.masked_bias": [1], "h.0.attn.bias": [1, 1, 4, 4]},
    )
    assert parameters(model) == 5


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapters_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "config.json").rename(folder / "adapter_config.json")


def adapters_beside(folder: Path) -> None:
    put(folder / "adapter_config.json", {"base_model_name_or_path": "other/model"})


def two_shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    tensors(folder / SHARDS[0], a=[2, 3])
    tensors(folder / SHARDS[1], b=[4])
    put(folder / INDEX, {"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}})


def misplacing_index(folder: Path) -> None:
    two_shards(folder)
    put(folder / INDEX, {"weight_map": {"a": SHARDS[1], "b": SHARDS[1], "c": SHARDS[0]}})


def raw_integers(folder: Path) -> None:
    path = tensors(folder / "model.safetensors", **{"a.weight": [2, 3], "b.weight": [4], "masked_bias": [1]})
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))


def missing_shard(folder: Path) -> None:
    two_shards(folder)
    (folder / SHARDS[1]).unlink()


def no_index(folder: Path) -> None:
    two_shards(folder)
    (folder / INDEX).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:40])


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")


def no_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")


def odd_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 7) + b'{"a":1}')


def damaged_index(folder: Path) -> None:
    two_shards(folder)
    (folder / INDEX).write_text("{")


WHOLE = "a folder as save_pretrained writes it"
AGAIN = "; download or save the model again$"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without_config, rf"MODEL has no config.json; give {WHOLE} \(config.json, "),
        (without_weights, rf"MODEL has no weights; give {WHOLE}"),
        (
            pickle_only,
            r"MODEL has its weights only as pickle \(pytorch_model.bin\), which can run arbitrary code .*convert",
        ),
        (
            adapters_only,
            r"MODEL contains adapters \(adapter_config.json\), not a model; merge them first \(merge_and_unload",
        ),
        (adapters_beside, r"MODEL contains adapters \(adapter_config.json\), not a model; merge them first"),
        (missing_shard, rf"MODEL has no {SHARDS[1]}, which its index names{AGAIN}"),
        (no_index, rf"MODEL contains {SHARDS[0]}, but neither model.safetensors nor {INDEX}{AGAIN}"),
        (cut, rf"MODEL has a damaged model.safetensors \((\d+) bytes of (\d+)\){AGAIN}"),
        (cut_header, rf"MODEL has a damaged model.safetensors \(its header is cut off\){AGAIN}"),
        (empty, r"MODEL has a damaged model.safetensors \(unpack requires a buffer of 8 bytes\)"),
        (pointer, rf"MODEL has a damaged model.safetensors \(a git-lfs pointer: run git lfs pull\){AGAIN}"),
        (no_tensors, r"MODEL has a damaged model.safetensors \(its header does not describe tensors\)"),
        (
            misplacing_index,
            r"MODEL has an index \(model.safetensors.index.json\) that places 2 tensors in files without them "
            rf"\(first: a in {SHARDS[1]}\){AGAIN}",
        ),
        (
            raw_integers,
            r"MODEL has 2 weights as I32 \(first: a.weight\) and its config.json names no quantization_config, so "
            "their values cannot be decoded; provide the model in float32, bfloat16 or float16",
        ),
        (odd_tensors, r"MODEL has a damaged model.safetensors \(its header does not describe tensors\)"),
        (damaged_index, rf"MODEL/{INDEX} is damaged: not JSON \(.*\){AGAIN}"),
    ],
)  # fmt: skip
def test_unusable_weights_are_reported(model, harm, said):
    harm(model)
    line = told(model)
    assert re.match(said.replace("MODEL", f"(?:{OPTION}: )?MODEL"), line), line


def test_a_cut_file_is_reported_by_its_sizes(model):
    whole = (model / "model.safetensors").stat().st_size
    cut(model)
    assert f"({whole - 1} bytes of {whole})" in told(model)


def test_shards_are_those_of_the_index_and_one_file_comes_before_them(model):
    one = model / "model.safetensors"
    tensors(model / "consolidated.safetensors", c=[100])
    assert shards(model) == [one]
    kept = one.read_bytes()
    two_shards(model)
    assert shards(model) == [model / name for name in SHARDS]
    check(OPTION, model, model)
    assert parameters(model) == 10
    one.write_bytes(kept)
    assert shards(model) == [one]


@pytest.mark.parametrize(("text", "why"), [("{", "not JSON"), ("[]", "not a JSON object"), (b"\xff\xfe", "not")])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_json_is_reported_by_its_file(model, name, text, why):
    (model / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert told(model).startswith(f"MODEL/{name} is damaged: {why}")


@pytest.mark.parametrize("content", [{"weight_map": []}, {"weight_map": {"a": 3}}])
def test_an_index_that_names_no_files_is_reported(model, content):
    (model / "model.safetensors").unlink()
    put(model / INDEX, content)
    assert (
        told(model)
        == f"MODEL/{INDEX} is damaged: its weight_map does not map to file names; download or save the model again"
    )


@pytest.mark.parametrize("content", [{"model": []}, {"added_tokens": [{}]}, {"model": {"vocab": {"x": "y", "z": 1}}}])
def test_a_tokenizer_that_describes_no_tokens_is_reported(model, content):
    put(model / "tokenizer.json", content)
    assert (
        told(model)
        == "MODEL/tokenizer.json is damaged: it has no readable vocabulary; download or save the tokenizer again"
    )


def test_a_missing_file_is_empty(tmp_path):
    assert read(tmp_path / "none.json") == {}


def test_a_missing_tokenizer_is_reported_with_the_remedy(model):
    (model / "tokenizer.json").unlink()
    assert told(model) == (
        f"{OPTION}: MODEL has no tokenizer (tokenizer.json, tokenizer.model, vocab.json); set model.tokenizer "
        "to the right folder or hub id"
    )


@pytest.mark.parametrize("name", ["PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_generic_tokenizer_must_name_its_end_token(model, name):
    put(model / "tokenizer_config.json", {"tokenizer_class": name})
    assert told(model) == (
        f"{OPTION}: the tokenizer in MODEL has no end token (eos_token), so answers would never end; set one "
        "(tokenizer.eos_token = …; tokenizer.save_pretrained) or set model.tokenizer to another folder"
    )
    put(model / "special_tokens_map.json", {"eos_token": {"content": "y"}})
    check(OPTION, model, model)


@pytest.mark.parametrize("config", [{"tokenizer_class": "GPT2Tokenizer"}, {"model_max_length": 1024}, None])
def test_a_class_of_one_model_knows_its_end_token(model, config):
    (model / "tokenizer_config.json").unlink()
    if config is not None:
        put(model / "tokenizer_config.json", config)
    check(OPTION, model, model)


@pytest.mark.parametrize(
    ("tokenizer", "largest"),
    [
        ({"model": {"vocab": {"x": 0, "y": 9}}}, 9),
        ({"model": {"vocab": {"x": 10}}}, 10),
        ({"model": {"vocab": {"x": 0}}, "added_tokens": [{"id": 12}]}, 12),
        ({"model": {"vocab": [["x", -1.0]] * 10}}, 9),
        ({"model": {"vocab": [["x", -1.0]] * 11}}, 10),
        ({}, None),
    ],
)
def test_a_tokenizer_must_not_know_more_tokens_than_the_model(model, tokenizer, largest):
    put(model / "tokenizer.json", tokenizer)
    assert largest_id(model) == largest
    if largest is None or largest < 10:
        assert check_tokenizer_fits(model, model)
        return check(OPTION, model, model)
    assert not check_tokenizer_fits(model, model)
    assert told(model) == (
        f"{OPTION}: the tokenizer in MODEL has {largest + 1} tokens and the model has embeddings for 10: they do not "
        "match; set model.tokenizer to the folder of the right one"
    )
    return None


def test_a_config_without_a_size_is_not_refused(model):
    put(model / "config.json", {"text_config": {"vocab_size": 8}})
    assert embeddings(model) == 8
    assert not check_tokenizer_fits(model, model)
    put(model / "config.json", {})
    assert embeddings(model) is None
    check(OPTION, model, model)


@pytest.fixture(scope="module")
def family(tmp_path_factory) -> Path:
    from helpers.model_families import save_family

    return save_family("qwen2_5_1_5b_instruct", tmp_path_factory.mktemp("made") / "qwen", texts=["Who is Ada?"])


def state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        path.name: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.iterdir())
    }


def test_the_linked_model_loads_and_the_users_files_stay_as_they_are(family, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before, folder = state(family), tmp_path / "store" / "model"
    check(OPTION, family, family)
    link(family, family, folder)
    link(family, family, folder)  # as after a kill
    assert state(family) == before
    assert {path.name for path in folder.iterdir()} == set(before)
    assert all(path.is_symlink() and path.resolve().parent == family for path in folder.iterdir())
    plain = AutoModelForCausalLM.from_pretrained(family)
    linked = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert all(torch.equal(one, two) for one, two in zip(plain.parameters(), linked.parameters(), strict=True))
    assert sum(each.numel() for each in plain.parameters()) == parameters(family)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer("Who is Ada?").input_ids == AutoTokenizer.from_pretrained(family)("Who is Ada?").input_ids
    shutil.rmtree(folder)
    assert state(family) == before


def test_weights_and_tokenizer_come_each_from_their_own_folder(family, tmp_path):
    from transformers import AutoTokenizer

    weights, words, folder = tmp_path / "weights", tmp_path / "words", tmp_path / "linked"
    shutil.copytree(family, weights)
    shutil.copytree(family, words)
    put(weights / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    (weights / "special_tokens_map.json").write_text("{}")
    assert "has no end token" in told(weights)
    check(OPTION, weights, words)
    link(weights, words, folder)
    came = {path.name: path.resolve().parent.name for path in folder.iterdir()}
    assert came == {
        "config.json": "weights", "generation_config.json": "weights", "model.safetensors": "weights",
        "tokenizer.json": "words", "tokenizer_config.json": "words",
    }  # fmt: skip
    assert AutoTokenizer.from_pretrained(folder).eos_token == "<|im_end|>"


def test_links_hold_all_shards_and_nothing_that_is_not_loaded(model, tmp_path):
    two_shards(model)
    for name in ("pytorch_model.bin", "consolidated.safetensors", "modeling.py", "README.md"):
        (model / name).write_text("x")
    for name in ("merges.txt", "chat_template.jinja", "vocab.json"):
        (model / name).write_text("{}")
    link(model, model, tmp_path / "linked")
    assert {path.name for path in (tmp_path / "linked").iterdir()} == {
        "config.json", INDEX, *SHARDS, "tokenizer.json", "tokenizer_config.json", "merges.txt", "chat_template.jinja",
        "vocab.json",
    }  # fmt: skip


def test_an_old_tokenizer_without_settings_gets_empty_ones_that_are_not_the_users(model, tmp_path):
    (model / "tokenizer_config.json").unlink()
    link(model, model, tmp_path / "linked")
    made = tmp_path / "linked" / "tokenizer_config.json"
    assert (made.read_text(), made.is_symlink()) == ("{}\n", False)
    assert not (model / "tokenizer_config.json").exists()
    # Where the user adds them later they are taken, and nothing is written through a link to them.
    put(model / "tokenizer_config.json", {"eos_token": "y"})
    link(model, model, tmp_path / "linked")
    assert made.is_symlink()
    (model / "tokenizer_config.json").unlink()
    link(model, model, tmp_path / "linked")
    assert not made.is_symlink()
    assert not (model / "tokenizer_config.json").exists()
