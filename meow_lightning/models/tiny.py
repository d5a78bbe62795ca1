"""A tiny model to train from scratch in half a minute on one core, with a tokenizer for the dataset."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from meow_lightning.errors import UserError
from meow_lightning.models.vocabulary import END, PAD, train_bpe

__all__ = ["END", "PAD", "llama", "tokenizer_from"]


def tokenizer_from(texts: Sequence[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a lossless byte-level BPE tokenizer on ``texts``; it can encode any text.

    Args:
        texts: Training texts of the merges.
        vocab_size: Total entries, including the 256 bytes and two special tokens.
    """
    tokenizer = train_bpe(texts, vocab_size=vocab_size)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


@contextlib.contextmanager
def initialized_in(dtype: torch.dtype) -> Iterator[None]:
    """Initialise weights in a given dtype: float32 normal deviates differ in the last bits between instruction sets."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def llama(
    *,
    vocab_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    intermediate_size: int,
    context: int,
    end_id: int,
    pad_id: int,
) -> PreTrainedModel:
    """Create a randomly initialised Llama with tied embeddings; the caller seeds torch.

    Raises:
        UserError: ``hidden_size`` is not divisible into heads of even width.
    """
    if heads < 1 or hidden_size % (2 * heads):
        raise UserError(
            f"model.architecture.hidden_size={hidden_size} is invalid: expected a multiple of {2 * heads}, twice "
            "the number of heads"
        )
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=heads, intermediate_size=intermediate_size, max_position_embeddings=context,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=end_id, pad_token_id=pad_id,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config)
