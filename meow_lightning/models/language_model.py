"""A causal language model together with the prompts and tokens that it is trained and evaluated with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from meow_lightning.config.composition import compose_options, library_options
from meow_lightning.config.files import CONF
from meow_lightning.config.precision import PRECISIONS
from meow_lightning.data.prompting import PromptEncoder
from meow_lightning.errors import UserError, check_choice
from meow_lightning.models.float64 import float64_forward
from meow_lightning.models.load import DTYPES, load_codec, load_model, save_model
from meow_lightning.models.sources import locate, parse

TEMPLATES = ("auto", "chat")


class LanguageModel:
    """A causal language model, its prompt encoder and its precision.

    Args:
        model: The model; evaluation functions expect evaluation mode.
        encoder: Its prompts and tokens.
        precision: A value of ``model.precision`` (``32-true``, ``bf16-true``, ``bf16-mixed``, …): the number formats of
            weights and training; see :mod:`meow_lightning.config.precision`.

    Attributes:
        model: The model of transformers; for a method with its own inference, see :meth:`of_method`, the method's.
        encoder: Prompts and tokens.
        precision: As given.
    """

    def __init__(self, model: Any, encoder: PromptEncoder, *, precision: str) -> None:
        check_choice("precision", precision, PRECISIONS)
        self.model, self.encoder, self.precision = model, encoder, precision
        self._method: str | None = None

    @classmethod
    def of_method(cls, method: str, model: Any, encoder: PromptEncoder, *, precision: str) -> LanguageModel:
        """Wrap the model through which an unlearning method answers, for a method whose model is no plain checkpoint.

        It can be scored and evaluated, but neither saved nor trained further.

        Args:
            method: Name of the method, for messages.
            model: The method's model.
            encoder: As for the constructor, like ``precision``.
            precision: Number formats.
        """
        made = cls(model, encoder, precision=precision)
        made._method = method
        return made

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        prompt: str | Mapping[str, str | None] | None = None,
        tokenizer: str | Path | None = None,
        precision: str | None = None,
        attention: str | None = None,
        device: str | torch.device | None = None,
    ) -> LanguageModel:
        """Load a model from a folder, a GGUF file or the hub: no pickles, and no code of the checkpoint is run.

        Defaults are those of ``conf/model/own.yaml``.

        Args:
            source: Folder as ``save_pretrained`` writes it, GGUF file, or hub id ``owner/name`` with or without
                ``@revision``.
            prompt: Prompt before the answer. ``auto``: the tokenizer's chat template if it has one, else a plain
                question and answer; ``chat``; a text with ``{question}`` once, after which the answer follows; the name
                of a file of ``conf/model`` such as ``llama2_7b_chat``, whose prompt is used; or a mapping with any of
                ``template``, ``answer_prefix``, ``system`` and ``date``, as under ``model.prompt``.
            tokenizer: Folder or hub id of the tokenizer; ``None`` if the model comes with its own.
            precision: Value of ``model.precision``.
            attention: Attention implementation of transformers: ``sdpa``, ``eager`` or ``flash_attention_2``.
            device: Such as ``cpu`` or ``cuda:0``; ``None`` for a GPU if there is one.

        Raises:
            UserError: The source does not exist, its files are incomplete or not finite, or an argument is invalid.
        """
        defaults = library_options(()).model
        precision = check_choice("precision", precision or defaults.precision, PRECISIONS)
        weights = locate(parse("source", str(source), words=()), weights=True, fetch=True)
        tokens = weights
        if tokenizer is not None:
            tokens = locate(parse("tokenizer", str(tokenizer), words=()), weights=False, fetch=True)
        model = load_model(
            weights, dtype=PRECISIONS[precision].weights, attention=attention or defaults.attention
        ).eval()
        encoder = load_codec(tokens, prompt=_prompt(prompt, defaults.prompt.plain()), model=model)
        model.to(_device(device))  # type: ignore[arg-type]
        return cls(model, encoder, precision=precision)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Tokenizer of the model."""
        return self.encoder.tokenizer

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.model.device

    def to(self, device: str | torch.device) -> LanguageModel:
        """Move the weights to a device; returns this model."""
        self.model.to(device)  # type: ignore[arg-type]
        return self

    def copy(self, *, dtype: str | None = None) -> PreTrainedModel:
        """Copy the transformers model on the CPU, in evaluation mode.

        Args:
            dtype: Number format of the copy: ``float32``, ``float64``, ``bfloat16`` or ``float16``; ``None`` for that
                of the model. A Llama in float64 computes everything in it.

        Raises:
            UserError: The model is that of a method with its own inference.
        """
        self._check_plain()
        device = self.model.device
        copied = copy.deepcopy(self.model.cpu()).eval()  # type: ignore[call-arg]
        self.model.to(device)  # type: ignore[arg-type]
        if dtype is not None:
            copied.to(DTYPES[dtype])  # type: ignore[arg-type]
        if dtype == "float64":
            float64_forward(copied)
        return copied

    def _check_plain(self) -> None:
        if self._method is not None:
            raise UserError(
                f"{self._method} answers through a model of its own, which is no plain checkpoint: it can be scored "
                "and evaluated here; to store it, run the method with meow.run"
            )

    def duplicate(self) -> LanguageModel:
        """Copy this model on the same device, with the same prompt encoder."""
        copied = self.copy().to(self.device)  # type: ignore[arg-type]
        return LanguageModel(copied, self.encoder, precision=self.precision)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, tokenizer and generation settings, for :meth:`from_pretrained` and for transformers.

        Args:
            folder: Target folder, created if it does not exist.

        Returns:
            The folder.

        Raises:
            UserError: The model is that of a method with its own inference.
        """
        self._check_plain()
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        save_model(self.model, self.tokenizer, path, end_ids=self.encoder.end_ids)
        return path


def _prompt(given: str | Mapping[str, str | None] | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Complete a prompt with the defaults of ``model.prompt``.

    Raises:
        UserError: It is neither a template nor the name of a model's file.
    """
    if given is None:
        return dict(defaults)
    if isinstance(given, Mapping):
        for name in given:
            check_choice("prompt", name, defaults)
        return {**defaults, **given}
    if given in TEMPLATES or "{question}" in given:
        return {**defaults, "template": given}
    names = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    check_choice("prompt", given, [*TEMPLATES, *names])
    return compose_options([f"model={given}"]).model.prompt.plain()


def _device(given: str | torch.device | None) -> torch.device:
    if given is not None:
        return torch.device(given)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
