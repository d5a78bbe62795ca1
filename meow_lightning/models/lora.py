"""Adapters: small trained matrices beside frozen weights, so that a large model fits one small GPU; and their merge."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from transformers import PreTrainedModel

from meow_lightning.errors import UserError


def with_lora(model: PreTrainedModel, *, rank: int, alpha: float, dropout: float, seed: int) -> torch.nn.Module:
    """The model, changed in place: frozen, with a trained adapter on every linear layer but the output head.

    y = W x + (alpha / rank) B A drop(x), A (rank, in) uniform within 1 / sqrt(in), B (out, rank) zero, so that the
    model answers at first as it did (Hu et al. 2021, "LoRA", section 4.1). It is called and trained as before;
    :func:`merge_adapters` gives the plain model back.

    The adapters are float32 where the weights are bfloat16 or float16, whose steps are too coarse for small updates:
    peft makes them so, casts a layer's input up for them and their sum down again. A ``to(dtype)`` of the whole model
    would undo that, and Lightning's ``bf16-true`` and ``16-true`` do one: train under ``32-true``, which casts nothing
    whatever its name says. Float64 weights get float64 adapters.

    Args:
        model: A causal language model, on any device.
        rank: Width of an adapter, from 1.
        alpha: Strength of the adapters, above 0; their output is scaled by alpha / rank.
        dropout: Share of an adapter's inputs that is dropped in training, from 0 to below 1.
        seed: Decides the first A of every adapter. The global random state is left as it was.

    Raises:
        UserError: A rank, an alpha or a dropout that is not allowed.
    """
    _check(rank=rank, alpha=alpha, dropout=dropout)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", bias="none",  # type: ignore[arg-type]
        task_type="CAUSAL_LM",
    )  # fmt: skip
    trained = frozenset(name for name, weight in model.named_parameters() if weight.requires_grad)
    # Where checkpointing is on, peft adds the hook that transformers has added already; nobody would remove the first.
    model.disable_input_require_grads()
    # peft draws on the CPU, whatever device the model is on, so no other generator is touched.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        torch.default_generator.manual_seed(seed)
        adapted: Any = get_peft_model(model, config)
    adapted.trained_before = trained
    return adapted


def merge_adapters(model: torch.nn.Module) -> PreTrainedModel:
    """The plain model, W + (alpha / rank) B A in place of W, with the weights trainable that were so before adapters.

    The adapted model is used up. Nothing of peft is left: class, names of weights and config are those of the model
    that :func:`with_lora` was given. The sum is rounded once to the precision of W, so that in bfloat16 updates below
    about 2^-9 of a weight are lost: what is measured on the saved model has seen that, a curve during training has not.

    Raises:
        ValueError: When the model has no adapters.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        raise ValueError(f"{type(model).__name__} has no adapters to merge: give what with_lora returned")
    trained: Any = model.trained_before
    plain: PreTrainedModel = model.merge_and_unload()  # type: ignore[operator]
    for name, weight in plain.named_parameters():
        weight.requires_grad_(name in trained)
    return plain


class Unadapted(torch.nn.Module):
    """The model as it was before its adapters, for asking: called like the model, without gradients or a second copy.

    Args:
        model: What :func:`with_lora` returned.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._model = (model,)  # not a part of this module: moving it is the trainer's business

    def forward(self, **inputs: Any) -> Any:
        """What the model says with its adapters switched off."""
        model: Any = self._model[0]
        frozen = [weight for weight in model.parameters() if not weight.requires_grad]
        with torch.no_grad(), model.disable_adapter():
            said = model(**inputs)
        for weight in frozen:  # peft makes every adapter trainable again, those that a method froze too
            weight.requires_grad_(False)
        return said


def enable_checkpointing(model: torch.nn.Module) -> None:
    """Nothing; from here on, in training mode, activations are computed again in the backward pass and not kept.

    Losses and gradients stay the same, dropout included: its random state is kept for the second pass. It works with
    and without adapters. The reentrant kind gives no gradient to a layer whose input needs none, so that behind frozen
    embeddings adapters would train nothing, without a word (open-unlearning issue 178); this is the other kind, and
    transformers lets the embeddings' output need a gradient besides.

    The cache of keys and values is refused by the layers themselves in training mode; in evaluation mode it works,
    so the config's ``use_cache``, which would be saved with the model, is left alone.

    Args:
        model: A causal language model, plain or adapted.

    Raises:
        UserError: When transformers cannot do it for this architecture.
    """
    language_model: Any = model
    if not language_model.supports_gradient_checkpointing:
        raise UserError(
            "trainer.gradient_checkpointing=true is given, but transformers has no checkpointing for models of the "
            f"type {language_model.config.model_type}; allowed: trainer.gradient_checkpointing=false. A smaller "
            "trainer.micro_batch_size saves memory too"
        )
    # The later name came in the course of transformers 5, the earlier one goes with 6; their first argument is one.
    later = hasattr(language_model, "activation_checkpointing_enable")
    name = "activation_checkpointing_enable" if later else "gradient_checkpointing_enable"
    getattr(language_model, name)({"use_reentrant": False})


def _check(*, rank: int, alpha: float, dropout: float) -> None:
    if rank < 1:
        raise UserError(
            f"model.lora.rank={rank} leaves adapters no width; allowed: whole numbers from 1. "
            "Nearest: model.lora.rank=1; usual are 8 to 64"
        )
    if not 0 < alpha < math.inf:
        raise UserError(
            f"model.lora.alpha={alpha} gives adapters no strength; allowed: numbers above 0. "
            f"Usual is twice the rank: model.lora.alpha={2 * rank}"
        )
    if not 0 <= dropout < 1:
        nearest = 0.99 if dropout >= 1 else 0.0
        raise UserError(
            f"model.lora.dropout={dropout} is no share of inputs to drop; allowed: from 0 to below 1. "
            f"Nearest: model.lora.dropout={nearest}; usual are 0.0 to 0.1"
        )
