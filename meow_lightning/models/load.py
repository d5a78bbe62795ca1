"""Loading and saving: plain Hugging Face folders in, plain Hugging Face folders out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from meow_lightning.data.prompting import PromptEncoder, special_tokens
from meow_lightning.errors import UserError
from meow_lightning.models.completeness import check_account, check_activation, check_finite, check_whole
from meow_lightning.models.float64 import float64_forward

CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(source: str | Path, *, dtype: str, attention: str) -> PreTrainedModel:
    """The causal language model in a folder or on the hub; safetensors only, no code of the checkpoint is run.

    Args:
        source: Local folder or hub id.
        dtype: Precision of the weights, one of ``DTYPES``; explicit, since transformers 5 otherwise takes the
            checkpoint's.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.

    Raises:
        UserError: It cannot be loaded, tensors are missing or left over, or weights are NaN or infinite.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(source), dtype=DTYPES[dtype], attn_implementation=attention, use_safetensors=True,
            trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (ImportError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source} cannot be loaded with model.attention={attention}: {reason}") from error
    model, account = loaded
    check_account(account, config=model.config, name=str(source))
    check_finite(
        model,
        cause=f"the weights in {source} are not finite numbers (NaN or infinite) in {dtype}: {{count}}; they were "
        "broken before, or overflow in this precision (model.precision=bf16-true and 32-true hold larger numbers)",
    )
    if dtype == "float64":
        float64_forward(model)
    return model


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub id."""
    return AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)


def load_codec(source: str | Path, *, prompt: Mapping[str, Any], model: PreTrainedModel) -> PromptEncoder:
    """The codec of a model: its tokenizer, the prompt it was trained with, its context and its end tokens.

    Args:
        source: Local folder or hub id of the tokenizer.
        prompt: ``model.prompt``: ``template`` and ``answer_prefix``, for chats also ``system`` and ``date`` (absent is
            null).
        model: Of the same folder; its generation settings may name further end tokens.
    """
    generation = model.generation_config or GenerationConfig()
    return Readable(model.config, load_tokenizer(source), generation).codec(prompt)


def context_of(config: PreTrainedConfig) -> int:
    """Most tokens that a model reads, of its text part where it has several; 2,048 where its config names no number."""
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in CONTEXT)
    return next((found for found in named if isinstance(found, int)), 2048)


def without_dropout(model: torch.nn.Module) -> None:
    """Nothing; the model drops nothing in training: what is drawn would hang on how a batch is split into passes."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


class Readable(NamedTuple):
    """What transformers reads of a causal language model without its weights."""

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig

    def codec(self, prompt: Mapping[str, Any]) -> PromptEncoder:
        """As :func:`load_codec`, which takes the same prompt.

        Raises:
            UserError: Prompt and tokenizer do not fit.
        """
        return PromptEncoder(
            tokenizer=self.tokenizer, template=prompt["template"], answer_prefix=prompt["answer_prefix"],
            system=prompt.get("system"), date=prompt.get("date"), context=context_of(self.config),
            end_ids=_named_ends(self.generation) & special_tokens(self.tokenizer).keys(),
        )  # fmt: skip


def readable(weights: Path, tokenizer: Path, *, name: str, attention: str | None = None) -> Readable:
    """A causal language model that is whole; no weight of it is loaded.

    Args:
        weights: Folder of the model.
        tokenizer: Folder of its tokenizer, often the same.
        name: What the user called the model; for the messages.
        attention: As for :func:`.whole.check_whole`.

    Raises:
        UserError: transformers cannot read it, it is another kind of model, or tensors are missing or left over.
    """
    try:
        config = AutoConfig.from_pretrained(weights, trust_remote_code=False)
        tokens = load_tokenizer(tokenizer)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name} cannot be loaded by transformers: {reason}") from error
    # Encoders stand in the list too, as decoders that attend both ways unless their config says otherwise.
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or encoder:
        raise UserError(f"{name} is a {config.model_type} model, which writes no text; give a causal language model")
    check_activation(config, name=name)
    check_whole(weights, name=name, attention=attention)
    try:
        generation = GenerationConfig.from_pretrained(weights)
    except OSError:
        generation = GenerationConfig.from_model_config(config)  # as transformers does where the file is missing
    return Readable(config, tokens, generation)


def _named_ends(generation: GenerationConfig | None) -> frozenset[int]:
    """What the generation settings call end tokens; may hold ordinary tokens, where a class default was never set."""
    named = getattr(generation, "eos_token_id", None)
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
