"""A tiny Llama as a GGUF file, written by the package ``gguf`` as llama.cpp's converter does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import quantize
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from helpers.models import tiny_llama
from meow_lightning.models.tiny import tokenizer_from

TEMPLATE = (
    "{% for message in messages %}{{ '<|pad|>' + message['role'] + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|pad|>assistant\\n' }}{% endif %}"
)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def small_model(*, vocab_size: int = 300, seed: int = 0) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Build a random Llama and a tokenizer that splits digits, with a chat template."""
    texts = ["Where was Ada born?", "Ada was born in Lima in the year.", "assistant user system"]
    tokenizer = tokenizer_from(texts, vocab_size=vocab_size)
    tokenizer.chat_template = TEMPLATE
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = tiny_llama(
        seed=seed, vocab_size=len(tokenizer), tie_word_embeddings=True, eos_token_id=end, pad_token_id=pad,
        bos_token_id=None, max_position_embeddings=512, num_key_value_heads=2,
        rms_norm_eps=2**-20,  # exact in the file's float32
    )  # fmt: skip
    return model, tokenizer


def write_gguf(
    path: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, kind: str = "F32",
    architecture: str = "llama", pre: str = "gpt-2", **entries: Any,
) -> Path:  # fmt: skip
    """Write a model and its tokenizer.

    Args:
        path: The file.
        model: A Llama.
        tokenizer: A byte-level BPE tokenizer.
        kind: Data type of the matrices.
        architecture: Name of the architecture.
        pre: How the tokenizer splits texts.
        **entries: Further whole numbers of the header; ``type`` instead is the text ``general.type``.
    """
    config, writer = model.config, GGUFWriter(path, architecture)
    writer.add_type(entries.pop("type", "model"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    for name, number in entries.items():
        writer.add_uint32(name.replace("__", "."), number)
    _add_tokenizer(writer, tokenizer, pre)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            _add_tensor(writer, _renamed(name), _permuted(name, weight.numpy(), config), GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, tokenizer: PreTrainedTokenizerFast, pre: str) -> None:
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = {*tokenizer.all_special_tokens}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocabulary)
    writer.add_token_types([TokenType.CONTROL if each in special else TokenType.NORMAL for each in vocabulary])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _add_tensor(writer: GGUFWriter, name: str, weight: np.ndarray, kind: GGMLQuantizationType) -> None:
    if weight.ndim == 1 or kind is GGMLQuantizationType.F32:
        writer.add_tensor(name, weight.astype(np.float32))
    else:
        writer.add_tensor(name, quantize(weight.astype(np.float32), kind), raw_dtype=kind)


def _renamed(name: str) -> str:
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in outer:
        return outer[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _permuted(name: str, weight: np.ndarray, config: Any) -> np.ndarray:
    """Order the rows of queries and keys as llama.cpp rotates them."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = next((number for part, number in heads.items() if part in name), None)
    if count is None:
        return weight
    rows, columns = weight.shape
    return weight.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
