"""Folders as ``save_pretrained`` writes them: what their files say about model and tokenizer, without any weight."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.models.gguf_file import POINTER, SUFFIX

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INDEX = "model.safetensors.index.json"
METHOD = "method.json"  # names the unlearning method whose own inference a stored model needs
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
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


def problem(folder: Path) -> str | None:
    """Explain why a folder's weights are unusable, from headers and sizes; ``None`` if usable."""
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
    if config(folder).get("quantization_config"):
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


def config(folder: Path) -> dict[str, Any]:
    """Read the model's ``config.json``; empty if the folder has none."""
    return read(folder / "config.json")


def parameters(folder: Path) -> int:
    """Count the weights in a folder from headers, without the buffers that old checkpoints store."""
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
    """Describe which tokenizer files a folder lacks; ``None`` if it has a tokenizer."""
    if any((folder / name).is_file() for name in TOKENIZERS):
        return None
    return f"has no tokenizer ({', '.join(TOKENIZERS)})"


def names_end_token(tokenizer: Path) -> bool:
    """Whether a tokenizer has an end token."""
    values = read(tokenizer / "tokenizer_config.json")
    # Model-specific classes have a built-in end token; generic ones only that of the file.
    built_in = values.get("tokenizer_class") not in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return built_in or bool(values.get("eos_token") or read(tokenizer / "special_tokens_map.json").get("eos_token"))


def has_chat_template(tokenizer: Path) -> bool:
    """Whether a tokenizer has a chat template."""
    files = ("chat_template.jinja", "chat_template.json")
    return any((tokenizer / name).is_file() for name in files) or bool(
        read(tokenizer / "tokenizer_config.json").get("chat_template")
    )


def embeddings(weights: Path) -> int | None:
    """Return the number of a model's token embeddings; ``None`` if its config does not give it."""
    values = config(weights)
    size = values.get("vocab_size", (values.get("text_config") or {}).get("vocab_size"))
    return int(size) if isinstance(size, int) else None


def largest_id(tokenizer: Path) -> int | None:
    """Return the largest token id of a fast tokenizer; ``None`` without tokenizer.json."""
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
