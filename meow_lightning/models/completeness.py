"""Whether a checkpoint holds the weights that its config's model needs, all of them finite numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from meow_lightning.errors import UserError, suggestion
from meow_lightning.models.checkpoint import shards

SHOWN = 3  # names in a message
LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
# What a wrapper puts before every name, with what it is and how the model inside is saved.
WRAPPERS = {
    "base_model.model.": ("a PEFT model that was saved without merging", "model.merge_and_unload().save_pretrained"),
    "_orig_mod.": ("a model that was saved inside torch.compile", "model._orig_mod.save_pretrained"),
    "module.": ("a model that was saved inside DistributedDataParallel", "model.module.save_pretrained"),
}


def check_activation(config: PreTrainedConfig, *, name: str) -> None:
    """Refuse a config whose activation function transformers does not know.

    Args:
        config: Of the whole model; the text part counts where there are several.
        name: What the user called the model; for the message.

    Raises:
        UserError: It does not.
    """
    text = config.get_text_config()
    for key in ACTIVATIONS:
        given = getattr(text, key, None)
        if isinstance(given, str) and given not in ACT2FN:
            raise UserError(
                f"{name}: {key}={given} in its config.json is unknown to transformers; correct config.json or download "
                f"the model again{suggestion(given, ACT2FN)}"
            )


def check_whole(folder: Path, *, name: str, attention: str | None = None) -> None:
    """Refuse a checkpoint whose tensors are not those of its config's model, without loading one.

    transformers loads the checkpoint onto the meta device and gives its own account, so that tied weights, renamed
    layers and buffers that are known to be superfluous count as they do when the model is used.

    Args:
        folder: Config and weights.
        name: What the user called the model; for the message.
        attention: transformers' attention implementation that it will be used with; ``None`` for its own choice.

    Raises:
        UserError: Tensors are missing, unexpected or of another shape, or the config describes no model.
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
            f"{name}: transformers makes no model of its config.json ({type(error).__name__}: {reason}); mend it, or "
            "fetch or save the model again"
        ) from error
    model, account = loaded
    check_account(account, config=model.config, name=name)


def check_account(account: Mapping[str, Any], *, config: PreTrainedConfig, name: str) -> None:
    """Refuse what transformers had to make up or leave out when it loaded a checkpoint.

    Args:
        account: Its ``output_loading_info``.
        config: Of the model.
        name: What the user called the model; for the message.

    Raises:
        UserError: Anything is missing, unexpected or of another shape.
    """
    missing, unexpected = sorted(account["missing_keys"]), sorted(account["unexpected_keys"])
    wrong = sorted(account["mismatched_keys"])
    parts = []
    if missing:
        parts.append(f"lacks {_counted(missing)} that its config.json asks for and would get random numbers there")
    if unexpected:
        parts.append(f"holds {_counted(unexpected)} that no part of the model takes")
    if wrong:
        weight, held, needed = wrong[0]
        parts.append(
            f"holds {len(wrong)} tensors of other shapes than its config.json makes (first: {weight} {list(held)} in "
            f"the place of {list(needed)})"
        )
    if parts:
        cause = _cause(missing, unexpected, layers=getattr(config.get_text_config(), "num_hidden_layers", None))
        raise UserError(f"{name} {'; it '.join(parts)}: {cause}")


def check_stored(folder: Path, *, name: str) -> None:
    """Refuse a checkpoint whose weights are not finite; it is read once, a tensor at a time.

    Args:
        folder: Config and weights.
        name: What the user called the model; for the message.

    Raises:
        UserError: Some weight is NaN or infinite.
    """
    from safetensors import safe_open

    broken = []
    for path in shards(folder):
        with safe_open(path, framework="pt") as file:
            broken += [each for each in file.keys() if not _finite(file.get_tensor(each))]  # noqa: SIM118 - no mapping
    if broken:
        raise UserError(
            f"{name} holds weights that are not finite numbers (NaN or infinite) in {_counted(broken)}: whatever "
            "it says means nothing; its training diverged or the file is damaged, so fetch or save the model again"
        )


def check_finite(model: PreTrainedModel, *, cause: str) -> None:
    """Refuse weights that are not finite: every score of such a model would be meaningless.

    Args:
        model: On any device.
        cause: What to say before the names of the tensors, such as whose weights they are; ``{count}`` is replaced.

    Raises:
        UserError: Some weight is NaN or infinite.
    """
    broken = [name for name, weight in model.named_parameters() if not _finite(weight)]
    if broken:
        raise UserError(cause.format(count=_counted(broken)))


def _finite(weight: torch.Tensor) -> bool:
    # A sum reads each number once and makes no copy; only where it overflows, each number must be looked at.
    with torch.no_grad():
        return bool(weight.sum(dtype=torch.float32).isfinite()) or bool(weight.isfinite().all())


def _counted(names: Sequence[str]) -> str:
    more = ", …" if len(names) > SHOWN else ""
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({', '.join(names[:SHOWN])}{more})"


def _cause(missing: Sequence[str], unexpected: Sequence[str], *, layers: int | None) -> str:
    """The likely reason for what is missing and unexpected, and what to do about it."""
    for prefix, (what, save) in WRAPPERS.items():
        if unexpected and all(name.startswith(prefix) for name in unexpected):
            return (
                f"the names start with {prefix!r}: this is {what}; save the model inside ({save}(FOLDER)), or take "
                f"{prefix!r} off the names in its safetensors"
            )
    if any(".lora_" in name or ".base_layer." in name for name in unexpected):
        return "adapters were saved with it; merge them first (model.merge_and_unload().save_pretrained(FOLDER))"
    if missing == ["lm_head.weight"] and not unexpected:
        return (
            "it has no head of its own; where the embeddings are its head set tie_word_embeddings to true in "
            "config.json, else fetch or save the model again"
        )
    odd = [*missing, *unexpected]
    if odd and layers is not None and (whole := _whole_layers(odd)) is not None:
        held = layers - len(whole) if missing else layers + len(whole)
        return (
            f"its config.json says num_hidden_layers={layers} and the files hold {held} layers: they do not belong "
            "together; mend config.json, or fetch or save the model again"
        )
    return "config.json and weights do not belong together; fetch or save the model again"


def _whole_layers(names: Collection[str]) -> set[int] | None:
    """The layers that some tensors belong to, where all of them do and each layer has as many."""
    found: dict[int, int] = {}
    for name in names:
        place = LAYER.search(name)
        if place is None:
            return None
        found[int(place[1])] = found.get(int(place[1]), 0) + 1
    return set(found) if min(found.values()) > 1 else None
