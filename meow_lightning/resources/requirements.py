"""The resources that computing a result requires, and the work of a stage from which they are estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.resources.inference_memory import InferenceLoad
from meow_lightning.resources.training_memory import Memory
from meow_lightning.store.artifact import Artifact

TOKENIZER_BYTES = 75  # tokenizer file size per vocabulary entry: 72 for SmolLM2, 134 for Llama 3
ROW_BYTES = 120  # JSON keys and small numbers of a row, without its texts; measured on results of the default run


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The resources that computing one artifact requires.

    Attributes:
        memory: Peak memory by parts; ``None`` if negligible.
        disk: Bytes that it leaves in the store.
        passing: Further bytes on disk while it is computed.
        flops: Approximate number of floating-point operations; 0 if they do not determine the time.
        parameters: Number of weights of the model that runs; 0 without a model.
        items: Number of rows, questions or facts that it processes; for a provided model its number of weights.
    """

    memory: Memory | None
    disk: int
    passing: int
    flops: float
    parameters: int
    items: int


NOTHING = Requirements(memory=None, disk=0, passing=0, flops=0.0, parameters=0, items=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWork:
    """The work of a stage that trains a model; the recipe and adapters are in the settings of its artifact.

    Attributes:
        streams: The rows of each stream; the first stream determines the rows of an epoch.
        evaluated: Whether the model is evaluated during training.
        adapters_possible: Whether the model could be trained with adapters instead.
        extra: Passes over each stream's rows besides one forward and backward pass, of which a forward pass alone is a
            third; empty for none.
        gradients: Rows whose gradients by all weights are computed before the training, one at a time.
    """

    streams: Sequence[Sequence[Example]]
    evaluated: bool
    adapters_possible: bool
    extra: Sequence[float] = ()
    gradients: Sequence[Example] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceWork:
    """The work of a stage that runs a model.

    Attributes:
        items: Number of facts, questions or requests.
        load: The inference load, which determines the memory.
        rows: Rows per scoring pass; 0 if nothing is scored.
        generation_batch_size: Prompts per generation batch; ``None`` for the largest that fits.
        tokens: Total tokens, including prompts.
        scored: Tokens with logits among them.
        gradient_tokens: Total tokens of the rows whose gradient is computed.
        gradient_scored: Tokens with logits among these.
        resident_bytes: Bytes of the weights of another model that stays in memory.
    """

    items: int
    load: InferenceLoad
    rows: int
    generation_batch_size: int | None
    tokens: int
    scored: int
    gradient_tokens: int = 0
    gradient_scored: int = 0
    resident_bytes: int = 0


Work = TrainingWork | InferenceWork


class Planner(Protocol):
    """The part of a plan that stages use to describe their work: the run, and the estimates that all stages share.

    Attributes:
        options: Resolved options of the run.
        dataset: Its dataset.
        streams: The builders of the streams that its method trains on.
        trainer: The ``trainer`` options.
        gpu: Whether stages that train or run a model use a GPU.
    """

    options: Mapping[str, Any]
    dataset: Dataset
    streams: Mapping[str, StreamBuilder]
    gpu: bool
    trainer: Mapping[str, Any]

    def tokens(self, fact: Example) -> int:
        """Estimate the tokens of a fact's question and answer with the prompt around them."""
        ...

    def scored(self, fact: Example) -> int:
        """Estimate the tokens of a fact's answer, including the end token."""
        ...

    def inference_load(
        self, facts: Sequence[Example], *, texts: int, prompts: int, generated: int, shared: bool, gradient: bool
    ) -> InferenceLoad:
        """Describe the inference of the run's model on some facts; see :class:`InferenceLoad`."""
        ...

    def teacher_load(self, *, dtype: str, prompts: int, tokens: int, generated: int) -> InferenceLoad:
        """Describe the inference of a language model that writes inverted facts or prompts."""
        ...

    def weights(self, artifact: Artifact) -> int:
        """Count the weights of the model behind an artifact; 0 if they are unknown."""
        ...

    def layers(self, artifact: Artifact) -> int:
        """Count the decoder layers of the model behind an artifact; 0 if they are unknown."""
        ...

    def estimate(self, artifact: Artifact, work: Work | None, *, disk: int) -> Requirements:
        """Estimate the requirements of an artifact.

        Args:
            artifact: The artifact.
            work: The work of its stage; ``None`` for a stage without a model.
            disk: Bytes of its result besides a model and the manifest.
        """
        ...
