"""Completeness of checkpoints: all weights that the config's model needs, all of them finite."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from meow_lightning.errors import UserError, suggestion
from meow_lightning.models.pretrained_folder import shards

MAX_SHOWN = 3  # names in a message
LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
# Name prefixes of wrappers, with a description and how to save the inner model.
WRAPPERS = {
    "base_model.model.": ("a PEFT model that was saved without merging", "model.merge_and_unload().save_pretrained"),
    "_orig_mod.": ("a model that was saved inside torch.compile", "model._orig_mod.save_pretrained"),
    "module.": ("a model that was saved inside DistributedDataParallel", "model.module.save_pretrained"),
}


def check_activation(config: PreTrainedConfig, *, name: str) -> None:
    """Reject a config with an activation function unknown to transformers.

    Args:
        config: Config of the whole model; its text part is checked.
        name: The model as the user named it; for error messages.

    Raises:
        UserError: The activation function is unknown.
    """
    text = config.get_text_config()
    for key in ACTIVATIONS:
        given = getattr(text, key, None)
        if isinstance(given, str) and given not in ACT2FN:
            raise UserError(
                f"{name}: {key}={given} in its config.json is unknown to transformers; correct config.json or download "
                f"the model again{suggestion(given, ACT2FN)}"
            )


def check_complete(folder: Path, *, name: str, attention: str | None = None) -> None:
    """Reject a checkpoint with tensors that differ from those of its config's model, without loading them.

    transformers loads the checkpoint onto the meta device and reports differences itself, so tied weights, renamed
    layers and known superfluous buffers are handled as in a real load.

    Args:
        folder: Config and weights.
        name: The model as the user named it; for error messages.
        attention: The attention implementation of transformers to use; ``None`` for its default.

    Raises:
        UserError: Tensors are missing, unexpected or of a different shape, or the config describes no model.
    """
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), device_map="meta", use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True, attn_implementation=attention,
        )  # fmt: skip
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if attention is not None and "attention" in reason:
            raise UserError(f"{name} cannot be used with model.attention={attention}: {reason}") from error
        raise UserError(
            f"{name}: transformers cannot build a model from its config.json ({type(error).__name__}: {reason}); "
            "correct it, or download or save the model again"
        ) from error
    model, loading_info = loaded
    check_loading_info(loading_info, config=model.config, name=name)


def check_loading_info(loading_info: Mapping[str, Any], *, config: PreTrainedConfig, name: str) -> None:
    """Reject a checkpoint for which transformers initialised or dropped weights.

    Args:
        loading_info: The ``output_loading_info`` of transformers.
        config: Config of the model.
        name: The model as the user named it; for error messages.

    Raises:
        UserError: A tensor is missing, unexpected or of a different shape.
    """
    missing, unexpected = sorted(loading_info["missing_keys"]), sorted(loading_info["unexpected_keys"])
    mismatched = sorted(loading_info["mismatched_keys"])
    problems = []
    if missing:
        problems.append(f"lacks {_counted(missing)} of its config.json, which would be initialised randomly")
    if unexpected:
        problems.append(f"has {_counted(unexpected)} that the model does not use")
    if mismatched:
        weight, stored, needed = mismatched[0]
        problems.append(
            f"has {len(mismatched)} tensors of shapes that differ from its config.json (first: {weight} {list(stored)} "
            f"instead of {list(needed)})"
        )
    if problems:
        cause = _cause(missing, unexpected, layers=getattr(config.get_text_config(), "num_hidden_layers", None))
        raise UserError(f"{name} {'; it '.join(problems)}: {cause}")


def check_stored(folder: Path, *, name: str) -> None:
    """Reject a checkpoint with non-finite weights, reading it once, one tensor at a time.

    Args:
        folder: Config and weights.
        name: The model as the user named it; for error messages.

    Raises:
        UserError: Some weight is NaN or infinite.
    """
    from safetensors import safe_open

    non_finite = []
    for path in shards(folder):
        with safe_open(path, framework="pt") as file:
            non_finite += [key for key in file.keys() if not _finite(file.get_tensor(key))]  # noqa: SIM118 - no mapping
    if non_finite:
        raise UserError(
            f"{name} has weights that are not finite (NaN or infinite) in {_counted(non_finite)}, so its outputs are "
            "meaningless; its training diverged or the file is damaged: download or save the model again"
        )


def check_finite(model: PreTrainedModel, *, cause: str) -> None:
    """Reject a model with non-finite weights: all its scores would be meaningless.

    Args:
        model: The model, on any device.
        cause: Text before the names of the tensors, such as the origin of the weights; ``{count}`` is replaced.

    Raises:
        UserError: Some weight is NaN or infinite.
    """
    non_finite = [name for name, weight in model.named_parameters() if not _finite(weight)]
    if non_finite:
        raise UserError(cause.format(count=_counted(non_finite)))


def _finite(weight: torch.Tensor) -> bool:
    # A sum reads each number once without a copy; only if it overflows must each number be checked.
    with torch.no_grad():
        return bool(weight.sum(dtype=torch.float32).isfinite()) or bool(weight.isfinite().all())


def _counted(names: Sequence[str]) -> str:
    more = ", …" if len(names) > MAX_SHOWN else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({', '.join(names[:MAX_SHOWN])}{more})"


def _cause(missing: Sequence[str], unexpected: Sequence[str], *, layers: int | None) -> str:
    """Explain missing and unexpected tensors, and how to fix the checkpoint."""
    for prefix, (description, save) in WRAPPERS.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            return (
                f"the names start with {prefix!r}: this is {description}; save the inner model ({save}(FOLDER)), or "
                f"remove {prefix!r} from the names in its safetensors"
            )
    if any(".lora_" in name or ".base_layer." in name for name in unexpected):
        return "it contains adapters; merge them first (model.merge_and_unload().save_pretrained(FOLDER))"
    if missing == ["lm_head.weight"] and not unexpected:
        return (
            "it has no output head; if the head is tied to the embeddings, set tie_word_embeddings to true in "
            "config.json, else download or save the model again"
        )
    differing = [*missing, *unexpected]
    if differing and layers is not None and (complete := _complete_layers(differing)) is not None:
        stored = layers - len(complete) if missing else layers + len(complete)
        return (
            f"its config.json says num_hidden_layers={layers} and the files have {stored} layers: they do not match; "
            "correct config.json, or download or save the model again"
        )
    return "config.json and weights do not match; download or save the model again"


def _complete_layers(names: Collection[str]) -> set[int] | None:
    """Return the layers that the tensors belong to, if all do and each layer has the same number of tensors."""
    counts: dict[int, int] = {}
    for name in names:
        match = LAYER.search(name)
        if match is None:
            return None
        counts[int(match[1])] = counts.get(int(match[1]), 0) + 1
    return set(counts) if min(counts.values()) > 1 else None
