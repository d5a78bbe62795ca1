"""Loading and saving: plain Hugging Face folders in, plain Hugging Face folders out."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from meow_lightning.data.prompts import Codec
from meow_lightning.types import UserError

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        UserError: When the name is none of those allowed.
    """
    if name not in DTYPES:
        raise UserError(f"model.dtype={name} is not known; allowed: {', '.join(DTYPES)}")
    return DTYPES[name]


def load_model(source: str | Path, *, dtype: str, attention: str) -> PreTrainedModel:
    """The causal language model in a folder or on the hub; safetensors only, no code of the checkpoint is run.

    Args:
        source: Local folder or hub id.
        dtype: Precision of the weights; said explicitly, since transformers 5 otherwise takes the checkpoint's.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
    """
    return AutoModelForCausalLM.from_pretrained(
        str(source), dtype=dtype_of(dtype), attn_implementation=attention, use_safetensors=True, trust_remote_code=False
    )


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub id."""
    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)


def load_codec(source: str | Path, *, template: str, lead: str, model: PreTrainedModel) -> Codec:
    """The codec of a model: its tokenizer, the prompt it was trained with, and its context."""
    context = int(getattr(model.config, "max_position_embeddings", 2048))
    return Codec(tokenizer=load_tokenizer(source), template=template, lead=lead, context=context)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a ``save_pretrained`` folder that ``AutoModelForCausalLM.from_pretrained`` loads, tokenizer included.

    The generation settings are written anew as greedy with the end and pad tokens named: shipped ones may sample, may
    name no end token, and ``save_pretrained`` refuses some of them.
    """
    end = tokenizer.eos_token_id
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=pad)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
