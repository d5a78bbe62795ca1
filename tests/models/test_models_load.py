from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from meow_lightning.errors import UserError
from meow_lightning.models.load import DTYPES, context_of, load_codec, load_model, load_tokenizer, save_model

PROMPT = {"template": "{question}", "answer_prefix": "", "system": None, "date": None}
IDS = torch.tensor([[5, 6, 7, 8, 9]])


@pytest.fixture
def saved(tiny, tokenizer, tmp_path):
    save_model(tiny, tokenizer, tmp_path / "model", end_ids=frozenset({tokenizer.eos_token_id}))
    return tmp_path / "model"


def test_plain_transformers_reads_what_was_written(tiny, tokenizer, saved) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(saved)
    assert torch.equal(loaded(IDS).logits, tiny.eval()(IDS).logits)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    again = AutoTokenizer.from_pretrained(saved)
    assert again("Where was Ada born?").input_ids == tokenizer("Where was Ada born?").input_ids
    assert (again.eos_token_id, again.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)


def test_only_safetensors_are_written(saved) -> None:
    names = {path.name for path in saved.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".py")) for name in names)


def test_generation_stops_at_the_end_token(tiny, tokenizer, tmp_path) -> None:
    with torch.no_grad():  # every token's state points along axis 0, where the end token's logit is the largest
        weight = torch.zeros_like(tiny.model.embed_tokens.weight)
        weight[0, 0] = 1.0
        weight[5:, 0] = 0.5
        tiny.model.embed_tokens.weight.copy_(weight)
        for layer in tiny.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    tiny.generation_config = GenerationConfig(do_sample=True, temperature=0.1, eos_token_id=77, top_k=3)
    save_model(tiny, tokenizer, tmp_path, end_ids=frozenset({tokenizer.eos_token_id}))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    said = loaded.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=8)
    assert said[0, 5:].tolist() == [tokenizer.eos_token_id]
    assert loaded.generation_config.do_sample is False
    assert loaded.generation_config.pad_token_id == tokenizer.pad_token_id


def test_loading_uses_the_requested_precision_and_attention(saved) -> None:
    for name, dtype in DTYPES.items():
        model = load_model(saved, dtype=name, attention="eager")
        assert {weight.dtype for weight in model.parameters()} == {dtype}
        assert model.config._attn_implementation == "eager"


def test_codec_of_a_folder(saved, tiny, tokenizer) -> None:
    codec = load_codec(saved, prompt=PROMPT, model=tiny)
    assert codec.context == 64
    assert codec.encode("Ada", "Lima").ids[-1] == tokenizer.eos_token_id
    assert codec.prompt_ids("Ada") == load_tokenizer(str(saved))("Ada").input_ids


def test_prompt_reaches_the_codec(saved, tiny) -> None:
    with pytest.raises(UserError, match=r"model.prompt.system='Be brief.' requires template=chat"):
        load_codec(saved, prompt={**PROMPT, "system": "Be brief."}, model=tiny)
    with pytest.raises(UserError, match=r"model.prompt.date='10 Apr 2025' requires template=chat"):
        load_codec(saved, prompt={**PROMPT, "date": "10 Apr 2025"}, model=tiny)
    bare = load_codec(saved, prompt={"template": "Q: {question}\nA:", "answer_prefix": " "}, model=tiny)
    assert bare.decode(bare.encode("Ada?", "Lima").ids, keep_special=True) == "Q: Ada?\nA: Lima<|end|>"


def test_further_ends_come_from_the_generation_settings_when_they_are_special(saved, tiny, tokenizer) -> None:
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    word = tokenizer("s").input_ids[0]
    for named, expected in ((None, {end}), (end, {end}), (word, {end}), ([word, pad], {end, pad}), ([], {end})):
        tiny.generation_config.eos_token_id = named
        assert load_codec(saved, prompt=PROMPT, model=tiny).end_ids == expected


def test_all_ends_are_saved_and_read_again(tiny, tokenizer, tmp_path) -> None:
    ends = frozenset({tokenizer.pad_token_id, tokenizer.eos_token_id})
    save_model(tiny, tokenizer, tmp_path, end_ids=ends)
    loaded = load_model(tmp_path, dtype="float32", attention="eager")
    assert loaded.generation_config.eos_token_id == sorted(ends)
    assert load_codec(tmp_path, prompt=PROMPT, model=loaded).end_ids == ends


def test_a_context_is_that_of_the_text_part() -> None:
    from transformers import Gemma3Config, GPT2Config, LlamaConfig, MambaConfig

    text = {"max_position_embeddings": 4096, "num_hidden_layers": 1, "hidden_size": 16, "vocab_size": 40}
    assert context_of(Gemma3Config(text_config=text)) == 4096
    assert context_of(LlamaConfig(max_position_embeddings=96)) == 96
    assert context_of(GPT2Config(n_positions=77)) == 77
    assert context_of(MambaConfig()) == 2048
