"""Options of the models: ``model``, with its prompt, adapters and the sizes of a model trained from scratch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from meow_lightning.config.mistakes import Rule
from meow_lightning.config.options import Options, consistency
from meow_lightning.config.ranges import MANY, Count, Positive, Range, Seed
from meow_lightning.config.training_options import Finetune, Pretrain
from meow_lightning.errors import UserError, invalid_option

MAX_NAME_LENGTH = 64  # characters
_NAME = re.compile(rf"[^\W_][\w+=.-]{{0,{MAX_NAME_LENGTH - 1}}}")
FileName = Annotated[
    str,
    Rule(
        lambda name: _NAME.fullmatch(name) is not None,
        f"at most {MAX_NAME_LENGTH} letters, digits and _ + = . -, the first a letter or digit, since file names "
        "contain it",
    ),
]
# Options that only a model trained from scratch needs.
SCRATCH = ("vocab_size", "architecture", "pretrain")


class ReleasedCheckpoints(Options):
    """One dataset's entry in ``model.released_checkpoints``."""

    target: str | None = None
    """The target model."""
    retain: dict[str, str | None] = Field(default_factory=dict)
    """The retain model of each split."""


class Architecture(Options):
    """``model.architecture``: a function that builds a model, and its sizes."""

    target: str = Field(alias="_target_")
    """The function."""
    hidden_size: Annotated[int, Range(2, 10**6)]
    """Width."""
    layers: Annotated[int, Range(1, 10**4)]
    """Depth."""
    heads: Annotated[int, Range(1, 10**5)]
    """Attention heads."""
    intermediate_size: Annotated[int, Range(1, 10**7)]
    """Width of the feed-forward part."""
    context: Annotated[int, Range(8, MANY)]
    """Positions, in tokens."""

    @consistency
    def _check_width(self) -> None:
        if self.target != "meow_lightning.models.tiny.llama":
            return  # another function may interpret its sizes differently
        width, heads = self.hidden_size, self.heads
        if width % (2 * heads):
            expected = f"a multiple of {2 * heads} (twice model.architecture.heads={heads})"
            nearest = max(1, round(width / (2 * heads))) * 2 * heads
            raise invalid_option("model.architecture.hidden_size", width, expected, did_you_mean=nearest)


class Prompt(Options):
    """``model.prompt``: how questions and answers are formatted."""

    template: str
    """Prompt before the answer: a text with ``{question}``, ``chat`` or ``auto``."""
    answer_prefix: str
    """Text between prompt and answer, trained with the answer."""
    system: str | None
    """System message of a chat template; null for none."""
    date: str | None
    """Date for a chat template that uses one; null for its default."""

    @consistency
    def _check_template(self) -> None:
        if self.template not in ("chat", "auto") and self.template.count("{question}") != 1:
            expected = "a text with {question} exactly once, chat or auto"
            raise invalid_option("model.prompt.template", repr(self.template), expected)


# Sets of facts whose gradients an initialisation of adapters reads.
INIT_STREAMS: dict[str, tuple[str, ...]] = {"default": (), "pissa": (), "fila": ("forget", "retain")}


class Adapters(Options):
    """Adapters by the sizes of their matrices."""

    rank: Annotated[int, Range(1, 10**5)] | None
    """Rank of the adapters."""
    alpha: Positive
    """Scale: the adapters' product is multiplied by alpha / rank."""

    @property
    def matrices(self) -> dict[str, Any] | None:
        """Rank and alpha; ``None`` to train all weights."""
        return None if self.rank is None else {"rank": self.rank, "alpha": self.alpha}


class Lora(Adapters):
    """``model.lora``: adapters; ``rank`` null trains all weights."""

    init: Literal["default", "pissa", "fila"] | None
    """Initial values in unlearning; null for those of the method, or else the default."""


class Model(Options):
    """``model``: its recipes are groups of their own; a provided model needs none to train it from scratch."""

    name: FileName
    """Name of the model."""
    base: str | None
    """Model without the facts: a folder, GGUF file or hub id; null for one trained from scratch."""
    target: str | None
    """Model with the facts: a folder, a GGUF file, a hub id or ``released``; null for the base, fine-tuned here."""
    retain: str | None
    """Model that never saw the forget set, likewise; ``none`` for a run without one."""
    tokenizer: str | None
    """Folder or hub id of the tokenizer; null for the model's own."""
    released_checkpoints: dict[str, ReleasedCheckpoints | None]
    """Models released by others, by dataset."""
    precision: Literal["32-true", "64-true", "bf16-true", "16-true", "bf16-mixed", "reproducible"]
    """Number formats of weights and computation."""
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    """Attention implementation of transformers."""
    seed: Seed
    """Seed of initialisation and of the fine-tuning order."""
    max_new_tokens: Count
    """Maximum tokens generated per answer and continuation."""
    prompt: Prompt
    lora: Lora
    vocab_size: Annotated[int, Range(300, 10**7)] | None
    """Entries of the vocabulary of a model trained from scratch."""
    architecture: Architecture | None
    pretrain: Pretrain | None
    finetune: Finetune

    @model_validator(mode="before")
    @classmethod
    def _without_scratch(cls, data: Any) -> Any:
        """Clear the options of a model trained from scratch for a provided one; a debug file may set these."""
        provided = ("base", "target", "released_checkpoints")
        if isinstance(data, Mapping) and any(data.get(name) for name in provided):
            return {**data, **dict.fromkeys(SCRATCH)}
        return data

    @consistency
    def _check_scratch(self) -> None:
        if self.architecture is None:
            return
        if self.tokenizer is not None:
            raise UserError(
                f"model.tokenizer={self.tokenizer} needs a provided model, but model={self.name} is trained "
                "from scratch with its own tokenizer; leave model.tokenizer out"
            )
        template = self.prompt.template
        if self.target is None and template in ("chat", "auto"):
            expected = f"a text with {{question}} once, since the tokenizer of model={self.name} has no chat template"
            raise invalid_option("model.prompt.template", template, expected)
