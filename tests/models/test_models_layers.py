"""A copy of a model with its first layers alone: the same weights, fewer layers, a checkpoint of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from meow_lightning.models.layers import decoder_layers, first_layers
from meow_lightning.models.tiny import llama

IDS = torch.tensor([[5, 6, 7, 8]])
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}


def deep(family: str) -> Any:
    torch.manual_seed(0)
    if family == "gpt2":
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2))
    elif family == "qwen2":  # its config lists the kind of every layer; of end tokens it has as many
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_hidden_layers=3, eos_token_id=[0, 3, 4], **SIZES))
    else:
        model = llama(
            vocab_size=50, hidden_size=16, layers=3, heads=2, intermediate_size=32, context=64, end_id=0, pad_id=1
        )
    return model.eval()


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2"])
def test_it_is_a_model_of_its_own_with_the_same_weights(family: str, tmp_path: Path) -> None:
    model = deep(family)
    before = model(input_ids=IDS).logits
    shallow = first_layers(model, 2)
    weights = {id(weight) for weight in model.parameters()}
    assert {id(weight) for weight in shallow.parameters()} < weights
    assert [len(decoder_layers(each)) for each in (model, shallow)] == [3, 2]
    assert [each.config.num_hidden_layers for each in (model, shallow)] == [3, 2]
    assert torch.equal(model(input_ids=IDS).logits, before)
    # What the layers above add is missing, and nothing else.
    with torch.no_grad():
        for weight in decoder_layers(model)[2].parameters():
            weight.zero_()
    logits = shallow(input_ids=IDS).logits
    torch.testing.assert_close(logits, model(input_ids=IDS).logits)
    assert not torch.allclose(logits, before, atol=1e-3)
    shallow.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert loaded.config.eos_token_id == model.config.eos_token_id
    torch.testing.assert_close(loaded(input_ids=IDS).logits, logits)


def test_all_layers_are_the_most() -> None:
    model = deep("llama")
    assert len(decoder_layers(first_layers(model, 9))) == 3
    with pytest.raises(ValueError, match=r"^Linear has no list of decoder layers$"):
        first_layers(torch.nn.Linear(1, 1), 1)
