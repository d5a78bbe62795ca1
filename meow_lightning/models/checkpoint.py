"""Checks of a model's folder or GGUF file, without loading weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from meow_lightning.errors import UserError
from meow_lightning.models import gguf_file, pretrained_folder

FLASH = "flash_attention_2"


class CheckpointFormat(Protocol):
    """A way of storing a model and its tokenizer; every function reads files' headers alone."""

    def problem(self, path: Path, /) -> str | None:
        """Explain why the weights are unusable; ``None`` if usable."""

    def config(self, path: Path, /) -> dict[str, Any]:
        """Read the dimensions of the model under the names of a ``config.json``."""

    def parameters(self, path: Path, /) -> int:
        """Count the weights."""

    def embeddings(self, path: Path, /) -> int | None:
        """Return the number of token embeddings; ``None`` if unknown."""

    def missing_tokenizer(self, path: Path, /) -> str | None:
        """Describe what of a tokenizer is missing; ``None`` if it is complete."""

    def largest_id(self, path: Path, /) -> int | None:
        """Return the tokenizer's largest token id; ``None`` if unknown."""

    def names_end_token(self, path: Path, /) -> bool:
        """Whether the tokenizer has an end token."""

    def has_chat_template(self, path: Path, /) -> bool:
        """Whether the tokenizer has a chat template."""


def format_of(path: Path) -> CheckpointFormat:
    """Return how a model is stored: a GGUF file, or a folder as ``save_pretrained`` writes it."""
    return gguf_file if path.is_file() else pretrained_folder


def check(option: str, weights: Path, tokenizer: Path) -> None:
    """Check that a model and a tokenizer can be used together.

    Args:
        option: The option that names the model, such as ``model.target``.
        weights: Folder or GGUF file of the model.
        tokenizer: Folder or GGUF file of its tokenizer, often the same.

    Raises:
        UserError: Weights or tokenizer are unusable, the tokenizer has no end token, or it has more tokens than the
            model has embeddings.
    """
    model, tokens = format_of(weights), format_of(tokenizer)
    if (reason := model.problem(weights)) is not None:
        raise UserError(f"{option}: {weights} {reason}")
    if (reason := tokens.missing_tokenizer(tokenizer)) is not None:
        raise UserError(f"{option}: {tokenizer} {reason}; set model.tokenizer to the right folder or hub id")
    if not tokens.names_end_token(tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} has no end token (eos_token), so answers would never end; set "
            "one (tokenizer.eos_token = …; tokenizer.save_pretrained) or set model.tokenizer to another folder"
        )
    if not check_tokenizer_fits(weights, tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} has {(tokens.largest_id(tokenizer) or 0) + 1} tokens and the "
            f"model has embeddings for {model.embeddings(weights)}: they do not match; set model.tokenizer to the "
            "folder of the right one"
        )


def check_attention(option: str, attention: str, *, dtype: str, gpu: bool) -> None:
    """Reject an unusable attention implementation, which transformers detects only when it loads a model.

    Args:
        option: The option, such as ``model.attention``.
        attention: Its value.
        dtype: Dtype of the computation.
        gpu: Whether it runs on a GPU.

    Raises:
        UserError: A GPU, its package or a 16-bit dtype is missing.
    """
    if attention != FLASH:
        return
    missing = (
        "a GPU" if not gpu
        else "the package flash-attn (pip install flash-attn)" if find_spec("flash_attn") is None
        else f"bfloat16 or float16 instead of {dtype}" if dtype not in ("bfloat16", "float16")
        else None
    )  # fmt: skip
    if missing is not None:
        raise UserError(f"{option}={attention} needs {missing}; set {option}=sdpa")


def check_tokenizer_fits(weights: Path, tokenizer: Path) -> bool:
    """Whether a model has embeddings for all tokens of a tokenizer, as far as their files show."""
    rows, largest = format_of(weights).embeddings(weights), format_of(tokenizer).largest_id(tokenizer)
    return rows is None or largest is None or largest < rows
