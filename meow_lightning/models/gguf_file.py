"""GGUF files, the format of llama.cpp, Ollama and LM Studio: what their headers say, without reading any weight."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUFFIX, MAGIC, VERSIONS = ".gguf", b"GGUF", (2, 3)
POINTER = b"version https://git-lfs"
AGAIN = "download the file again"
ALIGNMENT = 32  # bytes, unless general.alignment names another
STRING, ARRAY = 8, 9  # types of values; the others are numbers
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
PLAIN = ("F32", "F16")  # read without decoding
UNROUNDED = (*PLAIN, "BF16")
UNUSED = "rope_freqs"  # tensors that are computed, not loaded
END_TOKENS = ("eos_token_id", "eot_token_id", "eom_token_id")  # of the text, of a turn, of a message
# The keys of an architecture beside those of a config.json.
SIZES = {
    "embedding_length": "hidden_size", "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "context_length": "max_position_embeddings",
}  # fmt: skip
MODEL_TYPES = {"phi2": "phi", "gptneox": "gpt_neox"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file.

    Attributes:
        name: Its name, such as ``blk.0.attn_q.weight``.
        shape: Its shape, the fastest dimension first.
        type: Number of its data type.
        offset: Its first byte, from the start of the data.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes:
        metadata: Its values; an array of texts is represented by its length.
        tensors: Its tensors.
        start: Offset of the data in the file, in bytes.
    """

    metadata: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    start: int

    @property
    def architecture(self) -> str:
        """Name of the architecture, such as ``llama``."""
        return str(self.metadata.get("general.architecture", ""))


def is_gguf(path: Path) -> bool:
    """Whether a path is a GGUF file, by its suffix or its first bytes: Ollama names files by their digest."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix.lower() == SUFFIX or file.read(len(MAGIC)) == MAGIC


def problem(path: Path) -> str | None:
    """Explain why a GGUF file cannot be used as a model, from its header and size; ``None`` if it can.

    Whether transformers knows its architecture is found when its configuration is read.
    """
    if find_spec("gguf") is None:
        return "is a GGUF file, which needs the package gguf; pip install 'meow-lightning[gguf]'"
    with path.open("rb") as file:
        first = file.read(len(POINTER))
    if first == POINTER:
        return "is a git-lfs pointer, not the file itself; run git lfs pull"
    if not first.startswith(MAGIC):
        return f"is no GGUF file: it begins with {first[: len(MAGIC)]!r} instead of {MAGIC!r}; {AGAIN}"
    try:
        header = read_header(path)
        return _unusable(header) or _wrong_size(path, header)
    except (struct.error, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        return f"is damaged or cut off: its header ends early or is no header ({_line(error)}); {AGAIN}"


def read_header(path: Path) -> Header:
    """Read the header of a file; repeated calls for an unchanged file are free.

    Raises:
        ValueError: It is not valid.
        struct.error: It is cut off.
    """
    stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


def config(path: Path) -> dict[str, Any]:
    """Return the dimensions of a model under the names of a ``config.json``, for estimates."""
    header = read_header(path)
    architecture = header.architecture
    values: dict[str, Any] = {"model_type": MODEL_TYPES.get(architecture, architecture)}
    for theirs, ours in SIZES.items():
        value = header.metadata.get(f"{architecture}.{theirs}")
        if value is not None:
            values[ours] = max(value) if isinstance(value, tuple) else value
    values["vocab_size"] = embeddings(path)
    values["tie_word_embeddings"] = all(tensor.name != "output.weight" for tensor in header.tensors)
    return values


def parameters(path: Path) -> int:
    """Count the weights of a model."""
    return sum(math.prod(tensor.shape) for tensor in read_header(path).tensors if not tensor.name.startswith(UNUSED))


def embeddings(path: Path) -> int | None:
    """Return the number of token embeddings; ``None`` if the file has none."""
    shapes = [tensor.shape for tensor in read_header(path).tensors if tensor.name == "token_embd.weight"]
    return shapes[0][-1] if shapes else None


def missing_tokenizer(path: Path) -> str | None:
    """Describe a missing tokenizer; ``None`` if the file has one."""
    return None if tokens(path) else "has no tokenizer (tokenizer.ggml.tokens)"


def largest_id(path: Path) -> int | None:
    """Return the largest token id of the tokenizer; ``None`` for a file without one."""
    return tokens(path) - 1 if tokens(path) else None


def names_end_token(path: Path) -> bool:
    """Whether the tokenizer has an end token."""
    return bool(end_ids(path))


def has_chat_template(path: Path) -> bool:
    """Whether the tokenizer has a chat template."""
    return "tokenizer.chat_template" in read_header(path).metadata


def end_ids(path: Path) -> frozenset[int]:
    """Return the tokens that end a text, a turn or a message."""
    metadata = read_header(path).metadata
    named = (metadata.get(f"tokenizer.ggml.{name}") for name in END_TOKENS)
    return frozenset(int(each) for each in named if each is not None)


def tokens(path: Path) -> int:
    """Count the tokens of the tokenizer; 0 for a file without one."""
    return int(read_header(path).metadata.get("tokenizer.ggml.tokens", 0))


def rounding_note(path: Path) -> str | None:
    """Describe how the weights of a file are rounded, for readers of numbers; ``None`` for 16 bits and more."""
    kind = _most_common_type(read_header(path))
    if kind in UNROUNDED:
        return None
    found = re.search(r"\d+", kind)
    bits = f"{found[0]} bit{'s' * (found[0] != '1')}" if found else "fewer bits"
    return (
        f"its weights are rounded to {bits} ({kind}, {path.name}): its numbers are not those of the published "
        "checkpoint, and attacks by quantisation say less about it"
    )


def _most_common_type(header: Header) -> str:
    """Name the data type of most weights."""
    from gguf import GGMLQuantizationType

    weights: dict[int, int] = {}
    for tensor in header.tensors:
        weights[tensor.type] = weights.get(tensor.type, 0) + math.prod(tensor.shape)
    return GGMLQuantizationType(max(weights, key=weights.__getitem__)).name


@lru_cache(maxsize=8)
def _read_header(path: Path, size: int, changed: int) -> Header:
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as content:
        reader = _Reader(content)
        version, count, entries = reader.numbers("IQQ")
        if version not in VERSIONS:
            raise ValueError(f"version {version} of the format instead of {VERSIONS[0]} or {VERSIONS[1]}")
        metadata = dict(reader.entry() for _ in range(entries))
        tensors = tuple(reader.tensor() for _ in range(count))
    alignment = int(metadata.get("general.alignment", ALIGNMENT))
    return Header(metadata, tensors, -(-reader.position // alignment) * alignment)


class _Reader:
    """A cursor over a file.

    Args:
        content: The file.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.position = content, len(MAGIC)

    def numbers(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self.content, self.position)
        self.position += struct.calcsize(f"<{layout}")
        return values

    def text(self) -> str:
        (length,) = self.numbers("Q")
        (text,) = self.numbers(f"{length}s")
        return text.decode("utf-8")

    def entry(self) -> tuple[str, Any]:
        name = self.text()
        (kind,) = self.numbers("I")
        return name, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.numbers(_layout(kind))[0]
        element, count = self.numbers("IQ")
        if element != STRING:
            return self.numbers(f"{count}{_layout(element)}")
        for _ in range(count):  # the vocabulary: its texts are read by transformers
            (length,) = self.numbers("Q")
            self.position += length
        return count

    def tensor(self) -> Tensor:
        name = self.text()
        (dimensions,) = self.numbers("I")
        shape = self.numbers(f"{dimensions}Q")
        return Tensor(name, shape, *self.numbers("IQ"))


def _layout(kind: int) -> str:
    if kind not in NUMBERS:
        raise ValueError(f"a value of the unknown type {kind}")
    return NUMBERS[kind]


def _unusable(header: Header) -> str | None:
    """Explain why a file with a valid header holds no complete model."""
    if not header.architecture:
        return f"names no architecture (general.architecture); {AGAIN}"
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        return f"holds no model (general.type={kind}); give the file of the model itself"
    if (parts := header.metadata.get("split.count", 0)) > 1:
        return f"is one of {parts} parts of a model; join them with llama-gguf-split --merge FIRST_PART WHOLE.gguf"
    if not header.tensors:
        return "has no weights; give the file of a whole model"
    return _unreadable_type(header)


def _unreadable_type(header: Header) -> str | None:
    """Describe a data type of weights that the package gguf cannot decode."""
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    for number in {tensor.type for tensor in header.tensors}:
        try:
            kind = GGMLQuantizationType(number)
            if kind.name not in PLAIN:
                dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
        except (ValueError, KeyError, NotImplementedError):
            name = kind.name if number in {int(each) for each in GGMLQuantizationType} else str(number)
            return (
                f"has weights of the data type {name}, which the package gguf cannot decode; give a file in another "
                "one, such as Q8_0 or Q4_K_M, or update the package (pip install --upgrade gguf)"
            )
    return None


def _wrong_size(path: Path, header: Header) -> str | None:
    """Describe a file that ends before its last tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    expected = 0
    for tensor in header.tensors:
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
        expected = max(expected, header.start + tensor.offset + math.prod(tensor.shape) // block * size)
    found = path.stat().st_size
    return None if found >= expected else f"is cut off: {found} bytes of {expected}; {AGAIN}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
