"""Options of the SlimPLM probe: a pruned proxy, the judge of its answers, and retrieval."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ValidationError, model_validator

from meow_lightning.config.attack_options import AttackConfig
from meow_lightning.config.mistakes import invalid
from meow_lightning.config.options import Options, consistency
from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.config.ranges import Count, Number, Positive, Probability, Range, Seed
from meow_lightning.errors import check_choice, invalid_option

PLACEHOLDERS = {"system": (), "user": ("question", "answer")}  # of the texts that ask whether an answer is correct


class ReaderPrompt(Options):
    """``probe.judge.reader.prompt``: how the language model is asked whether an answer is correct."""

    version: Count
    """Version of the texts."""
    system: str
    """Instructions to the language model."""
    user: str
    """Message with the question and the answer."""


class Reader(Options):
    """``probe.judge.reader``: the language model that judges answers."""

    name: Literal["local"]
    """Name of the choice."""
    model: str
    """Folder, GGUF file or hub id of the model."""
    dtype: str
    """Dtype of its weights."""
    attention: str
    """Attention implementation."""
    prompt: ReaderPrompt

    @model_validator(mode="before")
    @classmethod
    def _check_chosen(cls, data: Any) -> Any:
        """Say how a file is chosen to whoever names it as if it were a value."""
        if isinstance(data, str):
            expected = (
                "null, or the options of a file in conf/judge, which is chosen by its group: "
                f"judge@probe.judge.reader={data}"
            )
            raise ValidationError.from_exception_data(cls.__name__, [invalid(data, expected).details()])
        return data

    @consistency
    def _check_texts(self) -> None:
        texts = {name: text for name, text in self.prompt.plain().items() if name != "version"}
        check_texts(texts)
        check_choice("probe.judge.reader.dtype", self.dtype, DTYPE_BYTES)


def check_texts(texts: Mapping[str, str]) -> None:
    """Check that the texts of a reader show question and answer.

    Args:
        texts: The texts, by part.

    Raises:
        UserError: One is not shown, or a placeholder is unknown.
    """
    for part, text in texts.items():
        allowed = PLACEHOLDERS[part]
        used = set(re.findall(r"\{(\w+)\}", text))
        if used != {*allowed}:
            expected = "a text with " + " and ".join(f"{{{name}}}" for name in allowed) if allowed else "plain text"
            raise invalid_option(f"probe.judge.reader.prompt.{part}", repr(text[:60]), expected)


class Judge(Options):
    """``probe.judge``: how answers become a probability that a question is known."""

    samples: Annotated[int, Range(1, 100)]
    """Sampled answers per question."""
    temperature: Positive
    """Temperature of the samples."""
    top_k: Annotated[int, Range(1, 1024)]
    """Number of most likely tokens to sample from."""
    top_p: Probability
    """Probability mass to sample from."""
    set_aside: Annotated[Number, Range(0, 1, above=True, below=True)]
    """Share of the questions of every set that the judge is trained on."""
    c: Positive
    """Inverse strength of the L2 penalty."""
    threshold: Probability
    """Probability from which on a question is judged known."""
    reader: Reader | None = None
    """Language model that judges; null for logistic regression."""
    seed: Seed
    """Seed of the samples and of the split."""


class Gate(Options):
    """``probe.gate``: retrieval for questions that are judged unknown."""

    corpus: str | None
    """Text file of passages, one per line; null for the facts of the dataset."""
    passages: Annotated[int, Range(1, 100)]
    """Passages per question."""
    prompt: str
    """Text with ``{passages}`` and ``{question}`` in the place of the question."""

    @consistency
    def _check_prompt(self) -> None:
        if any(self.prompt.count(part) != 1 for part in ("{passages}", "{question}")):
            expected = "a text with {passages} and {question}, once each"
            raise invalid_option("probe.gate.prompt", repr(self.prompt), expected)


class Probe(Options):
    """``probe``: an independent estimate of what the models know."""

    name: Literal["none", "slim"]
    """Name of the choice."""
    pruning: AttackConfig | None = None
    """How a proxy is made from each model."""
    proxy: str | None = None
    """Folder of the unlearned model's proxy; null to prune it here."""
    judge: Judge | None = None
    """How answers become a probability; null for ``none``."""
    gate: Gate | None = None
    """Options of the retrieval; null for ``none``."""

    @consistency
    def _check_slim(self) -> None:
        if self.name == "slim":
            for name in ("pruning", "judge", "gate"):
                if getattr(self, name) is None:
                    raise invalid_option(
                        f"probe.{name}", "null", "its options for probe=slim, as in conf/probe/slim.yaml"
                    )
