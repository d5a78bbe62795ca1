from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.model_families import save_family
from safetensors.torch import load_file, save_file

from meow_lightning.errors import UserError
from meow_lightning.models.completeness import check_complete, check_finite
from meow_lightning.models.load import load_model, read_model_files

TEXTS = ["Where was Ada Brook born?", "Ada Brook was born in Lima."] * 10
Weights = dict[str, torch.Tensor]


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    """A Llama of two layers with a head of its own: 2 * 9 + 3 tensors."""
    return save_family("llama2_7b_chat", tmp_path / "untied", texts=TEXTS)


@pytest.fixture
def tied(tmp_path: Path) -> Path:
    return save_family("qwen2_5_1_5b_instruct", tmp_path / "tied", texts=TEXTS)


def rewritten(folder: Path, change: Callable[[Weights], Weights]) -> Path:
    path = folder / "model.safetensors"
    changed = {name: weight.contiguous() for name, weight in change(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})
    return folder


def configured(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {each: weight for each, weight in weights.items() if each != name}


def prefixed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: weight for name, weight in weights.items()}


def refused(folder: Path) -> str:
    """What the look at the headers says; loading the weights must refuse them too."""
    with pytest.raises(UserError) as seen:
        check_complete(folder, name="model.target=X")
    with pytest.raises(UserError):
        load_model(folder, dtype="float32", attention="sdpa")
    assert "\n" not in str(seen.value)
    return str(seen.value)


@pytest.mark.parametrize("family", ["phi15", "llama2_7b_chat", "llama3_2_1b_instruct", "qwen2_5_1_5b_instruct"])
def test_whole_checkpoints_pass(family, tmp_path) -> None:
    folder = save_family(family, tmp_path / "model", texts=TEXTS)
    check_complete(folder, name="model.target=X")
    load_model(folder, dtype="float32", attention="sdpa")


def test_tables_of_old_checkpoints_and_names_without_their_prefix_pass(untied) -> None:
    """transformers leaves the first out and finds the second; both give the whole model."""
    rewritten(untied, lambda weights: weights | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    check_complete(untied, name="model.target=X")
    rewritten(untied, lambda weights: {name.removeprefix("model."): each for name, each in weights.items()})
    check_complete(untied, name="model.target=X")


@pytest.mark.parametrize(
    ("prefix", "cause"),
    [
        (
            "base_model.model.",
            "this is a PEFT model that was saved without merging; save the inner model "
            "(model.merge_and_unload().save_pretrained(FOLDER)), or remove 'base_model.model.' from",
        ),
        ("_orig_mod.", "this is a model that was saved inside torch.compile; save the inner model (model._orig_mod."),
        (
            "module.",
            "this is a model that was saved inside DistributedDataParallel; save the inner model (model.module.",
        ),
    ],
)
def test_names_with_a_wrappers_prefix(untied, prefix, cause) -> None:
    text = refused(rewritten(untied, prefixed(prefix)))
    assert text.startswith(
        "model.target=X lacks 21 tensors (lm_head.weight, model.embed_tokens.weight, model.layers.0."
    )
    assert f"it has 21 tensors ({prefix}lm_head.weight, " in text
    assert f": the names start with {prefix!r}: {cause}" in text
    rewritten(untied, lambda weights: {name.removeprefix(prefix): each for name, each in weights.items()})
    check_complete(untied, name="model.target=X")  # what the message says to do helps


def test_adapters_among_the_weights(untied) -> None:
    def adapted(weights: Weights) -> Weights:
        return weights | {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 32)}

    assert refused(rewritten(untied, adapted)).endswith(
        "it contains adapters; merge them first (model.merge_and_unload().save_pretrained(FOLDER))"
    )


def test_one_tensor_gone(untied) -> None:
    text = refused(rewritten(untied, without("model.layers.1.mlp.up_proj.weight")))
    assert text == (
        "model.target=X lacks 1 tensor (model.layers.1.mlp.up_proj.weight) of its config.json, which would be "
        "initialised randomly: config.json and weights do not match; download or save the model again"
    )


def test_no_head_where_it_is_not_the_embeddings(untied, tied) -> None:
    cause = "it has no output head; if the head is tied to the embeddings, set tie_word_embeddings to true"
    assert cause in refused(rewritten(untied, without("lm_head.weight")))
    assert cause in refused(configured(tied, tie_word_embeddings=False))
    check_complete(configured(tied, tie_word_embeddings=True), name="model.target=X")


@pytest.mark.parametrize("layers", [1, 3])
def test_other_layers_in_the_config_than_in_the_file(untied, layers) -> None:
    text = refused(configured(untied, num_hidden_layers=layers))
    assert f"its config.json says num_hidden_layers={layers} and the files have 2 layers" in text
    check_complete(configured(untied, num_hidden_layers=2), name="model.target=X")


def test_other_shapes(untied) -> None:
    text = refused(configured(untied, intermediate_size=96))
    assert text.startswith("model.target=X has 6 tensors of shapes that differ from its config.json (first: ")
    assert "model.layers.0.mlp.down_proj.weight [32, 64] instead of [32, 96])" in text


def test_an_unknown_activation(untied) -> None:
    with pytest.raises(UserError, match=r"model.target=X: hidden_act=siluu in its config.json .* Did you mean silu\?"):
        read_model_files(configured(untied, hidden_act="siluu"), untied, name="model.target=X")


def test_a_config_that_makes_no_model(untied) -> None:
    configured(untied, num_attention_heads="four")
    with pytest.raises(UserError, match=r"^model.target=X"):
        read_model_files(untied, untied, name="model.target=X")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(untied, value) -> None:
    def broken(weights: Weights) -> Weights:
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
        return weights

    rewritten(untied, broken)
    said = f"the weights in {untied} are not finite numbers (NaN or infinite) in float32: 1 tensor (model.layers.1.mlp."
    with pytest.raises(UserError, match=re.escape(said)):
        load_model(untied, dtype="float32", attention="sdpa")


def test_weights_that_overflow_in_half_the_width(untied) -> None:
    rewritten(untied, lambda weights: {name: weight * 0 + 1e5 for name, weight in weights.items()})
    with pytest.raises(UserError, match=r"overflow in this precision \(model.precision=bf16-true and 32-true"):
        load_model(untied, dtype="float16", attention="sdpa")
    load_model(untied, dtype="bfloat16", attention="sdpa")


def test_large_weights_with_an_overflowing_sum_are_finite(tiny) -> None:
    with torch.no_grad():
        tiny.model.embed_tokens.weight.fill_(3e38)
    check_finite(tiny, cause="{count}")
