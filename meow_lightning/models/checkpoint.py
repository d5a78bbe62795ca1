"""What a model's folder must hold before anything is done with it, read from its files without loading a weight."""

from __future__ import annotations

import json
import math
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
POINTER = b"version https://git-lfs"
FLASH = "flash_attention_2"
PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
TABLES = ("rotary_emb.inv_freq", "masked_bias")
ROLES = "a folder as save_pretrained writes it (config.json, *.safetensors, tokenizer files)"


def read(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty when there is no such file.

    Raises:
        UserError: The file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: not JSON ({error}); fetch or save the model again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; fetch or save the model again")
    return content


def shards(folder: Path) -> list[Path]:
    """The files of a model's weights as transformers picks them: ``model.safetensors``, else those an index names."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = read(folder / INDEX).get("weight_map", {})
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise UserError(f"{folder / INDEX} is damaged: its weight_map names no files; fetch or save the model again")
    return [folder / name for name in sorted(set(index.values()))]


def missing_weights(folder: Path) -> str | None:
    """Why a folder's weights cannot be used, ``None`` when they can; looks at headers and sizes alone."""
    if (folder / "adapter_config.json").is_file():
        # Beside a whole model they are as bad: transformers would load the adapters' own base model instead of it.
        return "holds adapters (adapter_config.json), no model; merge them first (merge_and_unload, save_pretrained)"
    if not (folder / "config.json").is_file():
        return f"has no config.json; give {ROLES}"
    files = shards(folder)
    if not files:
        if named := sorted(path.name for path in folder.glob("*.safetensors")):
            return f"holds {named[0]}, but neither model.safetensors nor {INDEX}; fetch or save the model again"
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            return (
                f"holds its weights as pickle only ({pickles[0]}), which can run any code when it is loaded; convert "
                "them once where you trust them: AutoModelForCausalLM.from_pretrained(…).save_pretrained(FOLDER)"
            )
        return f"holds no weights; give {ROLES}"
    for path in files:
        if not path.is_file():
            return f"lacks {path.name}, which its index names; fetch or save the model again"
        if (damage := _damage(path)) is not None:
            return f"has a damaged {path.name} ({damage}); fetch or save the model again"
    return _misplaced(folder, files) or _packed(folder, files)


def _misplaced(folder: Path, files: list[Path]) -> str | None:
    """What an index says of its shards that is not so; ``None`` where all is, or where one file holds everything."""
    if files[0].name == "model.safetensors":
        return None
    held = {path.name: header(path).keys() for path in files}
    lies = [(name, shard) for name, shard in read(folder / INDEX)["weight_map"].items() if name not in held[shard]]
    if not lies:
        return None
    name, shard = lies[0]
    return (
        f"has an index ({INDEX}) that places {len(lies)} tensors in files that do not hold them (first: {name} in "
        f"{shard}); fetch or save the model again"
    )


def _packed(folder: Path, files: list[Path]) -> str | None:
    """Why weights of a type that stands for other numbers cannot be read; ``None`` where all are plain numbers."""
    if read(folder / "config.json").get("quantization_config"):
        return None  # transformers knows what they stand for
    odd = [
        (name, entry["dtype"])
        for path in files
        for name, entry in header(path).items()
        if name.endswith("weight") and entry["dtype"] not in PLAIN_TYPES
    ]
    if not odd:
        return None
    return (
        f"holds {len(odd)} weights as {odd[0][1]} (first: {odd[0][0]}) and its config.json names no "
        "quantization_config, so nothing says which numbers they stand for; give the model in float32, bfloat16 or "
        "float16"
    )


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: shapes, types and places of its tensors by name."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("its header is cut off")
        return json.loads(file.read(length))


def parameters(folder: Path) -> int:
    """Number of weights in a folder, from the headers of its files; tables that old checkpoints keep do not count."""
    return sum(
        math.prod(entry["shape"])
        for path in shards(folder)
        for name, entry in header(path).items()
        if name != "__metadata__" and not name.endswith(TABLES) and len(entry["shape"]) < 4
    )


def _damage(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            return "a pointer of git-lfs: run git lfs pull"
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
        ends = [entry["data_offsets"][1] for name, entry in header(path).items() if name != "__metadata__"]
        whole, there = 8 + length + max(ends, default=0), path.stat().st_size
    except (OSError, ValueError, KeyError, struct.error) as error:
        return str(error) or type(error).__name__
    except (TypeError, AttributeError, IndexError):
        return "its header does not describe tensors"
    return None if whole == there else f"{there} bytes of {whole}"


def missing_tokenizer(folder: Path) -> str | None:
    """Why a folder has no tokenizer, ``None`` when it has one."""
    if any((folder / name).is_file() for name in TOKENIZERS):
        return None
    return f"has no tokenizer ({', '.join(TOKENIZERS)})"


def check(option: str, weights: Path, tokenizer: Path) -> None:
    """Nothing, when a model and its tokenizer can be used together.

    Args:
        option: How the user named the model, such as ``model.target``.
        weights: Folder of the model.
        tokenizer: Folder of the tokenizer, often the same.

    Raises:
        UserError: Weights or tokenizer cannot be used, the tokenizer names no end token, or it knows more tokens than
            the model has embeddings for.
    """
    if (lack := missing_weights(weights)) is not None:
        raise UserError(f"{option}: {weights} {lack}")
    if (lack := missing_tokenizer(tokenizer)) is not None:
        raise UserError(f"{option}: {tokenizer} {lack}; say model.tokenizer=FOLDER or hub id, where the right one is")
    if not names_end_token(tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} names no end token (eos_token), so no answer could ever end; set "
            "one (tokenizer.eos_token = …; tokenizer.save_pretrained) or say model.tokenizer=FOLDER"
        )
    if not check_tokenizer_fits(weights, tokenizer):
        raise UserError(
            f"{option}: the tokenizer in {tokenizer} knows {(largest_id(tokenizer) or 0) + 1} tokens and the model has "
            f"embeddings for {embeddings(weights)}: they do not belong together; say model.tokenizer=FOLDER, where the "
            "right one is"
        )


def check_attention(option: str, attention: str, *, dtype: str, gpu: bool) -> None:
    """Refuse an attention implementation that cannot be used here, which transformers finds at the first model.

    Args:
        option: How the user named it, such as ``model.attention``.
        attention: Its value.
        dtype: What the model computes in.
        gpu: Whether it does so on a GPU.

    Raises:
        UserError: It lacks a GPU, its package or a format of half the width.
    """
    if attention != FLASH:
        return
    lacks = (
        "a GPU" if not gpu
        else "the package flash-attn (pip install flash-attn)" if find_spec("flash_attn") is None
        else f"bfloat16 or float16 in the place of {dtype}" if dtype not in ("bfloat16", "float16")
        else None
    )  # fmt: skip
    if lacks is not None:
        raise UserError(f"{option}={attention} needs {lacks}; say {option}=sdpa")


def check_tokenizer_fits(weights: Path, tokenizer: Path) -> bool:
    """Whether a model has an embedding for every token that a tokenizer gives, as far as their files say."""
    rows, largest = embeddings(weights), largest_id(tokenizer)
    return rows is None or largest is None or largest < rows


def names_end_token(tokenizer: Path) -> bool:
    """Whether a tokenizer knows the token that ends an answer."""
    config = read(tokenizer / "tokenizer_config.json")
    # A class made for one model knows its end token by itself; these serve any model and know what the file says.
    speaks = config.get("tokenizer_class") not in ("PreTrainedTokenizerFast", "TokenizersBackend")
    return speaks or bool(config.get("eos_token") or read(tokenizer / "special_tokens_map.json").get("eos_token"))


def has_chat_template(tokenizer: Path) -> bool:
    """Whether a tokenizer comes with a chat template."""
    files = ("chat_template.jinja", "chat_template.json")
    return any((tokenizer / name).is_file() for name in files) or bool(
        read(tokenizer / "tokenizer_config.json").get("chat_template")
    )


def embeddings(weights: Path) -> int | None:
    """How many tokens a model has embeddings for, ``None`` when its config does not say."""
    config = read(weights / "config.json")
    size = config.get("vocab_size", (config.get("text_config") or {}).get("vocab_size"))
    return int(size) if isinstance(size, int) else None


def largest_id(tokenizer: Path) -> int | None:
    """The largest token id that a fast tokenizer can give, ``None`` when there is no tokenizer.json."""
    path = tokenizer / "tokenizer.json"
    content = read(path)
    try:
        vocabulary = content.get("model", {}).get("vocab", {})
        # A unigram vocabulary is a list of pieces, the others map pieces to ids.
        ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
        ids += [added["id"] for added in content.get("added_tokens", [])]
        return max(ids) if ids else None
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: it describes no tokens; fetch or save the tokenizer again") from error


def link(weights: Path, tokenizer: Path, folder: Path) -> None:
    """Nothing; ``folder`` holds links to the files of a model and of its tokenizer, so that both load from one place.

    Links cost no disk; where the files change or go, the store finds it and sets the result aside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = [path for path in weights.glob("*.json") if path.is_file() and not _of_tokenizer(path)]
    spoken = [path for path in tokenizer.iterdir() if path.is_file() and _of_tokenizer(path)]
    for path in (*config, *shards(weights), *spoken):
        place = folder / path.name
        place.unlink(missing_ok=True)
        place.symlink_to(path.resolve())
    if not (tokenizer / "tokenizer_config.json").is_file():
        # Old tokenizers come without; to transformers an empty one says the same, and a result without it is none.
        settings = folder / "tokenizer_config.json"
        settings.unlink(missing_ok=True)
        settings.write_text("{}\n", encoding="utf-8")


def _of_tokenizer(path: Path) -> bool:
    """Whether a file belongs to a tokenizer rather than to weights."""
    names = (
        "vocab",
        "merges",
        "special_tokens",
        "added_tokens",
        "chat_template",
        "tokenizer",
        "spiece",
        "sentencepiece",
    )
    return path.name.startswith(names) and path.suffix in (".json", ".txt", ".model", ".jinja")
