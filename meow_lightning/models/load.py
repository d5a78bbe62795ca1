"""Loading and saving: plain Hugging Face folders in, plain Hugging Face folders out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from meow_lightning.data.prompts import Codec, special_tokens
from meow_lightning.models.double import computed_in_double
from meow_lightning.models.given import header, shards
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
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(source), dtype=dtype_of(dtype), attn_implementation=attention, use_safetensors=True,
            trust_remote_code=False,
        )  # fmt: skip
    except (ImportError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source} cannot be loaded with model.attention={attention}: {reason}") from error
    if dtype == "float64":
        computed_in_double(model)
    return model


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub id."""
    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)


def load_codec(source: str | Path, *, prompt: Mapping[str, Any], model: PreTrainedModel) -> Codec:
    """The codec of a model: its tokenizer, the prompt it was trained with, its context and its end tokens.

    Args:
        source: Local folder or hub id of the tokenizer.
        prompt: ``model.prompt``: ``template`` and ``lead``, for chats also ``system`` and ``date`` (absent is null).
        model: Of the same folder; its generation settings may name further end tokens.
    """
    tokenizer = load_tokenizer(source)
    return Codec(
        tokenizer=tokenizer, template=prompt["template"], lead=prompt["lead"], system=prompt.get("system"),
        date=prompt.get("date"), context=int(getattr(model.config, "max_position_embeddings", 2048)),
        end_ids=_named_ends(model) & special_tokens(tokenizer).keys(),
    )  # fmt: skip


def without_dropout(model: torch.nn.Module) -> None:
    """Nothing; the model drops nothing in training: what is drawn would hang on how a batch is split into passes."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def check_askable(folder: Path, *, prompt: Mapping[str, Any], name: str) -> None:
    """Nothing, when a folder holds a causal language model that can be asked with this prompt; no weight is loaded.

    Args:
        folder: Model and tokenizer.
        prompt: As for :func:`load_codec`.
        name: What the user called the model; for the messages.

    Raises:
        UserError: transformers cannot read it, it is another kind of model, or prompt and tokenizer do not fit.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = load_tokenizer(folder)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name} cannot be loaded by transformers: {reason}") from error
    # Encoders stand in the list too, as decoders that attend both ways unless their config says otherwise.
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or encoder:
        raise UserError(f"{name} is a {config.model_type} model, which writes no text; give a causal language model")
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config).state_dict()
    for path in shards(folder):
        for weight, entry in header(path).items():
            if weight in built and list(built[weight].shape) != entry["shape"]:
                raise UserError(
                    f"{name}: its config.json makes {weight} {list(built[weight].shape)} and {path.name} holds "
                    f"{entry['shape']}: they do not belong together; fetch or save the model again"
                )
    context = int(getattr(config, "max_position_embeddings", 2048))
    Codec(
        tokenizer=tokenizer, template=prompt["template"], lead=prompt["lead"], system=prompt.get("system"),
        date=prompt.get("date"), context=context, end_ids=frozenset(),
    )  # fmt: skip


def _named_ends(model: PreTrainedModel) -> frozenset[int]:
    """What the generation settings call end tokens; may hold ordinary tokens, where a class default was never set."""
    named = getattr(model.generation_config, "eos_token_id", None)
    if named is None:
        return frozenset()
    return frozenset([named] if isinstance(named, int) else named)


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, end_ids: frozenset[int]
) -> None:
    """Write a ``save_pretrained`` folder that ``AutoModelForCausalLM.from_pretrained`` loads, tokenizer included.

    The generation settings are written anew as greedy with the end and pad tokens named: shipped ones may sample, may
    name no end token, and ``save_pretrained`` refuses some of them.

    Args:
        model: What is saved.
        tokenizer: Its tokenizer, with an end token.
        folder: Where to.
        end_ids: Every token that ends an answer, the tokenizer's own among them.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = sorted(end_ids)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends[0] if len(ends) == 1 else ends, pad_token_id=pad
    )
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
