"""Inverted facts written by a local language model, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from meow_lightning.config.ranges import Count, Probability, Seed, Temperature
from meow_lightning.config.signature import checked_ranges
from meow_lightning.inversion.chat import ChatWriter
from meow_lightning.inversion.chat_model import ChatModel
from meow_lightning.inversion.prompt_template import PromptTemplate


@checked_ranges("inversion")
class Local(ChatWriter):
    """Writer that runs a language model here; see :class:`~meow_lightning.inversion.chat_model.ChatModel`.

    Args:
        model: Name given by the user, for messages.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        prompt: Arguments of :class:`PromptTemplate`.
        candidates: Number of answers to request if a request has no ``count``, 1 or more.
        context: Background on the facts for the model; ``None`` for none.
        temperature: 0 or more; 0 is greedy decoding.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of a response, 1 or more; the model's context may leave fewer.
        seed: Seed of sampling.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: Called as ``adaptive_batch_size(model, tokens=…, generated=…)`` with the longest prompt and
            the longest response in tokens; returns the batch size controller.

    Raises:
        UserError: An option is out of its range.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ("model",)  # its weights enter the key by their content
    runs_locally: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, model: str, dtype: str, attention: str, prompt: Mapping[str, Any], candidates: Count,
        context: str | None, temperature: Temperature, top_p: Probability, max_new_tokens: Count, seed: Seed,
        folder: Path, device: str,
        # returns an AdaptiveBatchSize; that class is not named here because option checks must not import torch
        adaptive_batch_size: Callable[..., Any],
    ) -> None:  # fmt: skip
        super().__init__(
            ChatModel(
                model=model, dtype=dtype, attention=attention, template=PromptTemplate(**prompt),
                candidates=candidates, context=context, temperature=temperature, top_p=top_p,
                max_new_tokens=max_new_tokens, seed=seed, written="inverted facts", heading="Answers:", folder=folder,
                device=device, adaptive_batch_size=adaptive_batch_size,
            )
        )  # fmt: skip
