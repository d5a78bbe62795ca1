"""Undo files: the entries in which an unlearned model differs from the model that it started from."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from meow_lightning.errors import UserError
from meow_lightning.models.pretrained_folder import shards

INDEX, VALUE = "index/", "value/"  # prefixes of a weight's two tensors: flat indices, and the start model's entries
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write_undo(start: Path, finished: Path, file: Path) -> str | None:
    """Store the start model's entries wherever a finished model differs from it in any bit.

    Args:
        start: Folder of the start model; its weights are compared in the finished model's precision.
        finished: Folder of the finished model.
        file: File to write.

    Returns:
        Why no file was written, ``None`` if one was.
    """
    places = {name: path for path in shards(start) for name in _names(path)}
    stored: dict[str, torch.Tensor] = {}
    digests: dict[str, list[str]] = {"start": [], "finished": []}
    for name, weight in _weights(finished):
        known = name if name in places else name.partition(".")[2]  # some checkpoints lack the model's prefix
        original = _weight(places[known], known) if known in places else None
        if original is None or original.shape != weight.shape:
            return f"the start model has no weight {name} of the same shape"
        original = original.to(weight.dtype)
        differing = (_bits(original) != _bits(weight)).flatten().nonzero().flatten()
        if len(differing):
            stored[INDEX + name] = differing.to(torch.int32 if weight.numel() < 2**31 else torch.int64)
            stored[VALUE + name] = original.flatten()[differing]
        digests["start"].append(_digest(name, original))
        digests["finished"].append(_digest(name, weight))
    save_file(stored, file, metadata={role: _joined(each) for role, each in digests.items()})
    return None


def restore(model: Path, file: Path, target: Path) -> int:
    """Write the start model of an unlearned model; returns the number of restored entries.

    The folder appears when it is complete.

    Args:
        model: Folder of the unlearned model.
        file: Its undo file.
        target: Folder to create; its other files are those of ``model``.

    Raises:
        UserError: The target exists, or one of the files is damaged or belongs to another model.
    """
    if target.exists():
        raise UserError(f"{target} exists already; choose another folder with --to")
    try:
        stored = load_file(file)
        with safe_open(file, framework="pt") as opened:
            digests = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} is damaged ({error}); run the same command line again to compute it anew") from error
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    files = shards(model)
    shutil.copytree(model, partial, ignore=shutil.ignore_patterns(*(path.name for path in files)))
    before, after = [], []
    for path in files:
        weights = load_file(path)
        before += [_digest(name, weight) for name, weight in weights.items()]
        for name, weight in weights.items():
            if INDEX + name in stored:
                weight.view(-1)[stored[INDEX + name].long()] = stored[VALUE + name]
        after += [_digest(name, weight) for name, weight in weights.items()]
        save_file(weights, partial / path.name, metadata={"format": "pt"})
        shutil.copymode(path, partial / path.name)
    if _joined(before) != digests.get("finished") or _joined(after) != digests.get("start"):
        shutil.rmtree(partial)
        raise UserError(f"{file} does not belong to the model in {model}, or one of them was changed; nothing written")
    partial.rename(target)
    return sum(len(index) for name, index in stored.items() if name.startswith(INDEX))


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as opened:
        return list(opened.keys())


def _weight(path: Path, name: str) -> torch.Tensor:
    """Read one weight, so that no more than a pair of weights is in memory."""
    with safe_open(path, framework="pt") as opened:
        return opened.get_tensor(name)


def _weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in shards(folder):
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                yield name, opened.get_tensor(name)


def _bits(weight: torch.Tensor) -> torch.Tensor:
    """View a weight as integers, which tell 0 from -0 and compare NaN."""
    return weight.contiguous().view(_INTEGERS[weight.element_size()])


def _digest(name: str, weight: torch.Tensor) -> str:
    content = weight.contiguous().flatten().view(torch.uint8).numpy().data
    return f"{name} {weight.dtype} {tuple(weight.shape)} {hashlib.sha256(content).hexdigest()}"


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()
