"""The vocabulary of a model that is made here: byte-level BPE learned from the dataset's own texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END = "<|end|>"
PAD = "<|pad|>"


def train_bpe(texts: Sequence[str], *, vocab_size: int) -> Tokenizer:
    """A tokenizer that can write any text, and whose decoding gives it back.

    Args:
        texts: What the merges are learned from.
        vocab_size: Entries in all, the 256 bytes and two special tokens included.
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


def pieces(rows: Iterable[tuple[str, str]], prompt: Mapping[str, Any]) -> list[str]:
    """Questions and answers as they will be tokenized: the prompt whole, the answer with its prefix apart.

    Args:
        rows: (question, answer) of each.
        prompt: ``template``, a text with ``{question}``, and ``answer_prefix``.
    """
    return [
        text
        for question, answer in rows
        for text in (prompt["template"].replace("{question}", question), prompt["answer_prefix"] + answer)
    ]
