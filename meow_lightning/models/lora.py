"""LoRA adapters: small trained matrices added to frozen weights, and merging them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from meow_lightning.errors import UserError, invalid_option
from meow_lightning.models.logits_model import LogitsModel


def with_lora(model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, seed: int) -> torch.nn.Module:
    """Freeze the model in place and add a trained adapter to every linear layer but the output head.

    y = W x + (alpha / rank) B A drop(x), A (rank, in) uniform within 1 / sqrt(in), B (out, rank) zero, so that the
    initial outputs are unchanged (Hu et al. 2021, "LoRA", section 4.1). Other initial values are those of
    :func:`meow_lightning.training.adapter_init.initialise_adapters`. The model is called and trained as before;
    :func:`merge_adapters` returns a plain model.

    Adapters are float32 if the weights are bfloat16 or float16, which are too coarse for small updates: peft creates
    them so, and casts a layer's input up and the adapters' output down. Casting the whole model with ``to(dtype)``
    would undo that, as Lightning's ``bf16-true`` and ``16-true`` do: train under ``32-true``, which casts nothing
    despite its name. Float64 weights get float64 adapters.

    Args:
        model: A causal language model, on any device.
        rank: Rank of the adapters, from 1.
        alpha: Scale of the adapters, above 0; their output is multiplied by alpha / rank.
        dropout: Dropout probability of an adapter's inputs in training, from 0 to below 1.
        seed: Seed of the initial A matrices. The global random state is left unchanged.

    Raises:
        UserError: ``rank``, ``alpha`` or ``dropout`` is out of range.
    """
    _check(rank=rank, alpha=alpha, dropout=dropout)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", bias="none",  # type: ignore[arg-type]
        task_type="CAUSAL_LM",
    )  # fmt: skip
    trainable = frozenset(name for name, weight in model.named_parameters() if weight.requires_grad)
    # With gradient checkpointing, peft adds a hook that transformers has already added; one would never be removed.
    model.disable_input_require_grads()
    # peft draws on the CPU for any device of the model, so no other generator is affected.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        torch.default_generator.manual_seed(seed)
        adapted: Any = get_peft_model(model, config)
    adapted.trainable_names = trainable
    return adapted


class AdaptedLayer(NamedTuple):
    """The matrices of a linear layer with an adapter.

    Attributes:
        base: The frozen weight W, (outputs, inputs), or its transpose.
        transposed: Whether it is the transpose, as in GPT-2.
        down: A, (rank, inputs).
        up: B, (outputs, rank).
        scale: Factor of B A.
    """

    base: torch.nn.Parameter
    transposed: bool
    down: torch.nn.Parameter
    up: torch.nn.Parameter
    scale: float


def adapted_layers(model: torch.nn.Module) -> dict[str, AdaptedLayer]:
    """Find the layers with adapters, by name.

    Args:
        model: The model returned by :func:`with_lora`.
    """
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: each for name, each in model.named_modules() if isinstance(each, LoraLayer)}
    return {
        name: AdaptedLayer(
            each.get_base_layer().weight, each.fan_in_fan_out, each.lora_A["default"].weight,
            each.lora_B["default"].weight, each.scaling["default"],
        )
        for name, each in layers.items()
    }  # fmt: skip


def merge_adapters(model: torch.nn.Module) -> PreTrainedModel:
    """Merge the adapters, W + (alpha / rank) B A, and restore which weights are trainable.

    The adapted model is consumed. Nothing of peft remains: class, weight names and config are those of the model given
    to :func:`with_lora`. The sum is rounded once to the dtype of W, so in bfloat16 updates below about 2^-9 of a weight
    are lost: metrics of the saved model include that effect, curves during training do not.

    Raises:
        ValueError: The model has no adapters.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise ValueError(f"{type(model).__name__} has no adapters to merge: pass the model that with_lora returned")
    trainable: Any = model.trainable_names
    merged: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
    for name, weight in merged.named_parameters():
        weight.requires_grad_(name in trainable)
    return merged


@contextmanager
def without_adapters(model: torch.nn.Module) -> Iterator[None]:
    """Disable the adapters of a model within a context.

    Args:
        model: The model returned by :func:`with_lora`.
    """
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    adapted: Any = model
    try:
        with adapted.disable_adapter():
            yield
    finally:  # peft makes every adapter trainable again, including those that a method froze
        for weight in frozen:
            weight.requires_grad_(False)


def enable_checkpointing(model: torch.nn.Module) -> None:
    """Enable gradient checkpointing: recompute activations in the backward pass instead of storing them.

    Losses and gradients stay the same, including dropout, as its random state is saved for the second pass. Works with
    and without adapters. Reentrant checkpointing yields no gradient for a layer whose input needs none, so adapters
    behind frozen embeddings would silently not be trained (open-unlearning issue 178); this uses the non-reentrant
    kind, and transformers additionally makes the embeddings' output require a gradient.

    The layers disable the key-value cache in training mode and use it in evaluation mode, so the config's
    ``use_cache``, which would be saved with the model, is left unchanged.

    Args:
        model: A causal language model, plain or adapted, or a :class:`.LogitsModel`.

    Raises:
        UserError: transformers does not support it for this architecture.
    """
    if isinstance(model, LogitsModel):
        for each in model.models:
            enable_checkpointing(each)
        return
    language_model: Any = model
    if not language_model.supports_gradient_checkpointing:
        raise UserError(
            "trainer.gradient_checkpointing=true is invalid: transformers does not support it for models of type "
            f"{language_model.config.model_type}; set it to false, and reduce trainer.micro_batch_size to save memory"
        )
    # transformers 5 has both names, 6 only the later one; their first argument is the same.
    renamed = hasattr(language_model, "activation_checkpointing_enable")
    name = "activation_checkpointing_enable" if renamed else "gradient_checkpointing_enable"
    getattr(language_model, name)({"use_reentrant": False})


def _check(*, rank: int, alpha: float, dropout: float) -> None:
    if rank < 1:
        raise invalid_option("model.lora.rank", rank, "an integer of at least 1 (usual: 8 to 64)", did_you_mean=1)
    if not 0 < alpha < math.inf:
        raise invalid_option("model.lora.alpha", alpha, "a finite number above 0", did_you_mean=2 * rank)
    if not 0 <= dropout < 1:
        nearest = 0.99 if dropout >= 1 else 0.0
        expected = "a number from 0 to below 1 (usual: 0 to 0.1)"
        raise invalid_option("model.lora.dropout", dropout, expected, did_you_mean=nearest)
