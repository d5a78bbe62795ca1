"""Checks of a model's folder or GGUF file, without loading weights."""

from __future__ import annotations

import json
import math
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.models import gguf_file
from meow_lightning.models.gguf_file import POINTER, SUFFIX

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INDEX = "model.safetensors.index.json"
METHOD = "method.json"  # names the unlearning method whose own inference a stored model needs
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
FLASH = "flash_attention_2"
UNPACKED_DTYPES = ("F64", "F32", "F16", "BF16")
BUFFERS = ("rotary_emb.inv_freq", "masked_bias")
EXPECTED = "a folder as save_pretrained writes it (config.json, *.safetensors, tokenizer files)"


def read(path: Path) -> dict[str, Any]:
    """Read a file's JSON object; empty if the file does not exist.

    Raises:
        UserError: The file does not contain a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: not JSON ({error}); download or save the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: not a JSON object; download or save the model again")
    return content


def shards(folder: Path) -> list[Path]:
    """List a model's weight files as transformers selects them: ``model.safetensors``, else those named in an index."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = read(folder / INDEX).get("weight_map", {})
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise UserError(
            f"{folder / INDEX} is damaged: its weight_map does not map to file names; download or save the model again"
        )
    return [folder / name for name in sorted(set(index.values()))]


def missing_weights(folder: Path) -> str | None:
    """Explain why a folder's or GGUF file's weights are unusable, from headers and sizes; ``None`` if usable."""
    return gguf_file.problem(folder) if folder.is_file() else _missing_in_folder(folder)


def _missing_in_folder(folder: Path) -> str | None:
    if (folder / "adapter_config.json").is_file():
        # Even beside a complete model: transformers would load the adapters' base model instead.
        return (
            "contains adapters (adapter_config.json), not a model; merge them first (merge_and_unload, save_pretrained)"
        )
    if (folder / METHOD).is_file():
        return f"was written by an unlearning method with its own inference ({METHOD}) and is no model by itself"
    if not (folder / "config.json").is_file():
        named = sorted(path.name for path in folder.glob(f"*{SUFFIX}"))
        given = f"the GGUF file in it, {folder / named[0]}" if named else EXPECTED
        return f"has no config.json; give {given}"
    files = shards(folder)
    if not files:
        if named := sorted(path.name for path in folder.glob("*.safetensors")):
            return f"contains {named[0]}, but neither model.safetensors nor {INDEX}; download or save the model again"
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            return (
                f"has its weights only as pickle ({pickles[0]}), which can run arbitrary code when loaded; if you "
                "trust it, convert it once: AutoModelForCausalLM.from_pretrained(…).save_pretrained(FOLDER)"
            )
        return f"has no weights; give {EXPECTED}"
    for path in files:
        if not path.is_file():
            return f"has no {path.name}, which its index names; download or save the model again"
        if (damage := _damage(path)) is not None:
            return f"has a damaged {path.name} ({damage}); download or save the model again"
    return _misplaced(folder, files) or _packed(folder, files)


def _misplaced(folder: Path, files: list[Path]) -> str | None:
    """Describe tensors that the index places in files without them; ``None`` if it is correct or absent."""
    if files[0].name == "model.safetensors":
        return None
    stored = {path.name: header(path).keys() for path in files}
    misplaced = [
        (name, shard) for name, shard in read(folder / INDEX)["weight_map"].items() if name not in stored[shard]
    ]
    if not misplaced:
        return None
    name, shard = misplaced[0]
    return (
        f"has an index ({INDEX}) that places {len(misplaced)} tensors in files without them (first: {name} in "
        f"{shard}); download or save the model again"
    )


def _packed(folder: Path, files: list[Path]) -> str | None:
    """Describe weights in a packed data type that cannot be read; ``None`` if all are plain numbers."""
    if read(folder / "config.json").get("quantization_config"):
        return None  # transformers knows how to unpack them
    packed = [
        (name, entry["dtype"])
        for path in files
        for name, entry in header(path).items()
        if name.endswith("weight") and entry["dtype"] not in UNPACKED_DTYPES
    ]
    if not packed:
        return None
    return (
        f"has {len(packed)} weights as {packed[0][1]} (first: {packed[0][0]}) and its config.json names no "
        "quantization_config, so their values cannot be decoded; provide the model in float32, bfloat16 or float16"
    )


def header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: shapes, types and offsets of its tensors by name."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("its header is cut off")
        return json.loads(file.read(length))


def parameters(folder: Path) -> int:
    """Count the weights in a folder or GGUF file from headers, without the buffers that old checkpoints store."""
    if folder.is_file():
        return gguf_file.parameters(folder)
    return sum(
        math.prod(entry["shape"])
        for path in shards(folder)
        for name, entry in header(path).items()
        if name != "__metadata__" and not name.endswith(BUFFERS) and len(entry["shape"]) < 4
    )


def _damage(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            return "a git-lfs pointer: run git lfs pull"
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        ends = [entry["data_offsets"][1] for name, entry in header(path).items() if name != "__metadata__"]
        expected, size = 8 + length + max(ends, default=0), path.stat().st_size
    except (OSError, ValueError, KeyError, struct.error) as error:
        return str(error) or type(error).__name__
    except (TypeError, AttributeError, IndexError):
        return "its header does not describe tensors"
    return None if expected == size else f"{size} bytes of {expected}"


def missing_tokenizer(folder: Path) -> str | None:
    """Describe which tokenizer files a folder lacks; ``None`` if it, or a GGUF file, has a tokenizer."""
    if folder.is_file():
        return None if gguf_file.tokens(folder) else "has no tokenizer (tokenizer.ggml.tokens)"
    if any((folder / name).is_file() for name in TOKENIZERS):
        return None
    return f"has no tokenizer ({', '.join(TOKENIZERS)})"


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
    if (reason := missing_weights(weights)) is not None:
        raise UserError(f"{option}: {weights} {reason}")
    if (reason := missing_tokenizer(tokenizer)) is not None:
        raise UserError(f"{option}: {tokenizer} {reason}; set model.tokenizer to the right folder or hub id")
    if not names_end_token(tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} has no end token (eos_token), so answers would never end; set "
            "one (tokenizer.eos_token = …; tokenizer.save_pretrained) or set model.tokenizer to another folder"
        )
    if not check_tokenizer_fits(weights, tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} has {(largest_id(tokenizer) or 0) + 1} tokens and the model has "
            f"embeddings for {embeddings(weights)}: they do not match; set model.tokenizer to the folder of the right "
            "one"
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
    rows, largest = embeddings(weights), largest_id(tokenizer)
    return rows is None or largest is None or largest < rows


def names_end_token(tokenizer: Path) -> bool:
    """Whether a tokenizer has an end token."""
    if tokenizer.is_file():
        return bool(gguf_file.end_ids(tokenizer))
    config = read(tokenizer / "tokenizer_config.json")
    # Model-specific classes have a built-in end token; generic ones only that of the file.
    built_in = config.get("tokenizer_class") not in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return built_in or bool(config.get("eos_token") or read(tokenizer / "special_tokens_map.json").get("eos_token"))


def has_chat_template(tokenizer: Path) -> bool:
    """Whether a tokenizer has a chat template."""
    if tokenizer.is_file():
        return gguf_file.has_chat_template(tokenizer)
    files = ("chat_template.jinja", "chat_template.json")
    return any((tokenizer / name).is_file() for name in files) or bool(
        read(tokenizer / "tokenizer_config.json").get("chat_template")
    )


def embeddings(weights: Path) -> int | None:
    """Return the number of a model's token embeddings; ``None`` if its config does not give it."""
    if weights.is_file():
        return gguf_file.embeddings(weights)
    config = read(weights / "config.json")
    size = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    return int(size) if isinstance(size, int) else None


def largest_id(tokenizer: Path) -> int | None:
    """Return the largest token id of a fast tokenizer; ``None`` without tokenizer.json."""
    if tokenizer.is_file():
        return gguf_file.tokens(tokenizer) - 1
    path = tokenizer / "tokenizer.json"
    content = read(path)
    try:
        vocabulary = content.get("model", {}).get("vocab", {})
        # Unigram vocabularies are lists of pieces, the others map pieces to ids.
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [added["id"] for added in content.get("added_tokens", [])]
        return max(ids) if ids else None
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: it has no readable vocabulary; download or save the tokenizer again"
        ) from error


def link(weights: Path, tokenizer: Path, folder: Path) -> None:
    """Link the files of a model and its tokenizer into ``folder``, so that both load from one place.

    Links cost no disk space; if the files change or vanish, the store notices and discards the result.
    """
    folder.mkdir(parents=True, exist_ok=True)
    configs = [path for path in weights.glob("*.json") if path.is_file() and not _is_tokenizer_file(path)]
    tokenizer_files = [path for path in tokenizer.iterdir() if path.is_file() and _is_tokenizer_file(path)]
    for path in (*configs, *shards(weights), *tokenizer_files):
        target = folder / path.name
        target.unlink(missing_ok=True)
        target.symlink_to(path.resolve())
    if not (tokenizer / "tokenizer_config.json").is_file():
        # Old tokenizers have no config; transformers treats an empty one the same, and the folder is then complete.
        config_path = folder / "tokenizer_config.json"
        config_path.unlink(missing_ok=True)
        config_path.write_text("{}\n", encoding="utf-8")


def _is_tokenizer_file(path: Path) -> bool:
    """Whether a file belongs to a tokenizer and not to weights."""
    prefixes = (
        "vocab",
        "merges",
        "special_tokens",
        "added_tokens",
        "chat_template",
        "tokenizer",
        "spiece",
        "sentencepiece",
    )
    return path.name.startswith(prefixes) and path.suffix in (".json", ".txt", ".model", ".jinja")
