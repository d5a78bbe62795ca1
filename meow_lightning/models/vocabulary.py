"""Tokenizer of a model trained from scratch: byte-level BPE learned from the dataset's texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from meow_lightning.types import Segments

END = "<|end|>"
PAD = "<|pad|>"


def train_bpe(texts: Sequence[str], *, vocab_size: int) -> Tokenizer:
    """Train a lossless tokenizer that can encode any text.

    Args:
        texts: Training texts of the merges.
        vocab_size: Total entries, including the 256 bytes and two special tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END, PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokenizer_texts(rows: Iterable[tuple[str, str] | Segments], prompt: Mapping[str, Any]) -> list[str]:
    """Split rows as they are tokenized: the prompt, and the answer with its prefix; of raw text, both segments.

    Args:
        rows: (question, answer) pairs, or segments.
        prompt: ``template``, a text with ``{question}``, and ``answer_prefix``.
    """
    texts: list[str] = []
    for row in rows:
        question, answer, raw, _ = Segments(*row)
        template, answer_prefix = ("{question}", "") if raw else (prompt["template"], prompt["answer_prefix"])
        texts += [template.replace("{question}", question), answer_prefix + answer]
    return texts
