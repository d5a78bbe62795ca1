"""Loading of models from folders, GGUF files or the hub, and saving as plain Hugging Face folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from meow_lightning.models.completeness import check_activation, check_complete, check_finite, check_loading_info
from meow_lightning.models.float64 import float64_forward
from meow_lightning.models.from_gguf import (
    as_plain,
    check_architecture,
    pretrained_arguments,
    split_digits,
    with_end_tokens,
)
from meow_lightning.models.pretrained_folder import METHOD

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(source: str | Path, *, dtype: str, attention: str) -> PreTrainedModel:
    """Load a causal language model that answers by itself, as :func:`load_checkpoint` does.

    Raises:
        UserError: As there, or its answers are those of an unlearning method (``method.json``).
    """
    if (Path(source) / METHOD).is_file():
        raise UserError(
            f"{source} was written by an unlearning method with its own inference ({METHOD}), so its weights alone "
            "answer differently; evaluate it within the run that made it"
        )
    return load_checkpoint(source, dtype=dtype, attention=attention)


def load_checkpoint(source: str | Path, *, dtype: str, attention: str) -> PreTrainedModel:
    """Load a causal language model, from safetensors or a GGUF file only and without running checkpoint code.

    Args:
        source: Local folder, GGUF file or hub id.
        dtype: Precision of the weights, one of ``DTYPES``; explicit, since transformers 5 otherwise uses the
            checkpoint's.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.

    Raises:
        UserError: Loading fails, tensors are missing or unexpected, or weights are NaN or infinite.
    """
    try:
        with pretrained_arguments(source) as (name, gguf):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name, dtype=DTYPES[dtype], attn_implementation=attention, use_safetensors=True,
                trust_remote_code=False, output_loading_info=True, **gguf,
            )  # fmt: skip
    except (ImportError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{source} cannot be loaded with model.attention={attention}: {reason}") from error
    model, loading_info = loaded
    check_loading_info(loading_info, config=model.config, name=str(source))
    if gguf:
        model = as_plain(model)
        model.generation_config = with_end_tokens(model.generation_config or GenerationConfig(), Path(source))
    check_finite(
        model,
        cause=f"the weights in {source} are not finite numbers (NaN or infinite) in {dtype}: {{count}}; they were "
        "stored that way, or overflow in this precision (model.precision=bf16-true and 32-true have a larger range)",
    )
    if dtype == "float64":
        float64_forward(model)
    return model


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder, GGUF file or hub id."""
    with pretrained_arguments(source) as (name, gguf):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **gguf)
    return split_digits(tokenizer, Path(source)) if gguf else tokenizer


def load_codec(source: str | Path, *, prompt: Mapping[str, Any], model: PreTrainedModel) -> PromptEncoder:
    """Create a model's prompt encoder: its tokenizer, training prompt, context and end tokens.

    Args:
        source: Local folder, GGUF file or hub id of the tokenizer.
        prompt: ``model.prompt``: ``template`` and ``answer_prefix``, for chats also ``system`` and ``date`` (default:
            null).
        model: The model; its generation settings may name further end tokens.
    """
    generation = model.generation_config or GenerationConfig()
    return ModelFiles(model.config, load_tokenizer(source), generation).codec(prompt)


def context_of(config: PreTrainedConfig) -> int:
    """Return the context length of a model, of its text part if it has several; 2,048 if its config has none."""
    text = config.get_text_config()
    lengths = (getattr(text, name, None) for name in CONTEXT_KEYS)
    return next((length for length in lengths if isinstance(length, int)), 2048)


def without_dropout(model: torch.nn.Module) -> None:
    """Disable dropout in training mode: its draws would depend on how a batch is split into passes."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)


class ModelFiles(NamedTuple):
    """A causal language model's config, tokenizer and generation settings, without weights."""

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    generation: GenerationConfig

    def codec(self, prompt: Mapping[str, Any]) -> PromptEncoder:
        """Create the prompt encoder, as :func:`load_codec` does with the same prompt.

        Raises:
            UserError: Prompt and tokenizer are incompatible.
        """
        return PromptEncoder(
            tokenizer=self.tokenizer, template=prompt["template"], answer_prefix=prompt["answer_prefix"],
            system=prompt.get("system"), date=prompt.get("date"), context=context_of(self.config),
            end_ids=_generation_end_ids(self.generation) & special_tokens(self.tokenizer).keys(),
        )  # fmt: skip


def read_model_files(weights: Path, tokenizer: Path, *, name: str, attention: str | None = None) -> ModelFiles:
    """Read a complete causal language model without loading any weight.

    Args:
        weights: Folder or GGUF file of the model; whether a file has all tensors is found when they are read.
        tokenizer: Folder of its tokenizer, often the same.
        name: The model as the user named it; for error messages.
        attention: As for :func:`.completeness.check_complete`.

    Raises:
        UserError: transformers cannot read it, it is a different kind of model, or tensors are missing or unexpected.
    """
    if weights.is_file():
        check_architecture(weights, name=name)
    try:
        with pretrained_arguments(weights) as (source, gguf):
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **gguf)
        loaded_tokenizer = load_tokenizer(tokenizer)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name} cannot be loaded by transformers: {reason}") from error
    # The mapping also lists encoders, which attend in both directions unless their config has is_decoder.
    encoder = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or encoder:
        raise UserError(
            f"{name} is a {config.model_type} model, which does not generate text; use a causal language model"
        )
    check_activation(config, name=name)
    if weights.is_file():
        generation = with_end_tokens(GenerationConfig.from_model_config(config), weights)
        return ModelFiles(config, loaded_tokenizer, generation)
    check_complete(weights, name=name, attention=attention)
    try:
        generation = GenerationConfig.from_pretrained(weights)
    except OSError:
        generation = GenerationConfig.from_model_config(config)  # as transformers does if the file is missing
    return ModelFiles(config, loaded_tokenizer, generation)


def _generation_end_ids(generation: GenerationConfig | None) -> frozenset[int]:
    """Return the end tokens of the generation settings; may include ordinary tokens if a class default was kept."""
    eos = getattr(generation, "eos_token_id", None)
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, end_ids: frozenset[int],
    export: Callable[[PreTrainedModel, Path], None] | None = None,
) -> None:  # fmt: skip
    """Write a ``save_pretrained`` folder with tokenizer that ``AutoModelForCausalLM.from_pretrained`` loads.

    The generation settings are rewritten as greedy with explicit end and pad tokens: shipped ones may sample or lack an
    end token, and ``save_pretrained`` rejects some of them.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with an end token.
        folder: Target folder.
        end_ids: All tokens that end an answer, including the tokenizer's own.
        export: Writes the model, without tokenizer, into a folder; default: ``save_pretrained``.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ends = sorted(end_ids)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=ends[0] if len(ends) == 1 else ends, pad_token_id=pad
    )
    if export is None:
        model.save_pretrained(folder, safe_serialization=True)
    else:
        export(model, folder)
    tokenizer.save_pretrained(folder)
