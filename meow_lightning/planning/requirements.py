"""Estimates that the stages share: memory by parts, disk and operations, derived from shapes alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from meow_lightning.config.precision import DTYPE_BYTES, weights_dtype
from meow_lightning.data.encoding import FRAME, estimated_length, estimated_tokens
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.requests import during_request
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import format_of
from meow_lightning.models.sources import config_of, parse
from meow_lightning.planning.model_inputs import is_root
from meow_lightning.resources.cost import disk_needed, inference_flops, training_flops
from meow_lightning.resources.gradient_memory import peak_need
from meow_lightning.resources.inference_memory import InferenceLoad, inference_need, inference_settings_that_fit
from meow_lightning.resources.requirements import (
    NOTHING,
    TOKENIZER_BYTES,
    InferenceWork,
    Requirements,
    TrainingWork,
    Work,
)
from meow_lightning.resources.suggestions import settings_that_fit
from meow_lightning.resources.training_memory import (
    GPU_SLACK,
    HEAP_SLACK,
    MemorySettings,
    ModelDims,
    TrainingLoad,
    dims_of,
    lora_parameters,
    tiny_dims,
)
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact

MANIFEST_BYTES = 4_000  # per result


def largest_step(rows: int, recipe: Mapping[str, Any], *, shortest: int) -> int:
    """Compute the number of rows in the largest step of a training.

    Args:
        rows: Number of rows of an epoch, at least 1.
        recipe: Its ``global_batch_size`` limits the rows of a step, or its ``batch_tokens`` the tokens instead.
        shortest: Number of tokens of the shortest row.
    """
    if recipe.get("batch_tokens") is not None:
        return max(1, min(rows, recipe["batch_tokens"] // shortest))
    return -(-rows // -(-rows // recipe["global_batch_size"]))


class Planner:
    """Estimates for the artifacts of a run; implements :class:`meow_lightning.resources.requirements.Planner`.

    Args:
        options: Resolved options of the run.
        dataset: Its dataset.
        streams: The builders of the streams that its method trains on.
        gpu: Whether stages run on a GPU.
        available: Free bytes for a stage.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        *,
        dataset: Dataset,
        streams: Mapping[str, StreamBuilder],
        gpu: bool,
        available: int,
    ) -> None:
        self.options, self.dataset, self.streams, self.gpu, self.available = options, dataset, streams, gpu, available
        self.trainer, self.model = options["trainer"], options["model"]

    def size(self, artifact: Artifact) -> Requirements:
        """Estimate the requirements of an artifact, with the dataset as it is during its request to forget."""
        return stage(artifact.stage).requirements(artifact, self.during(artifact))

    def shape(self, artifact: Artifact) -> ModelDims:
        """Determine the dimensions of the model that an artifact trains or runs.

        Raises:
            UserError: The ``config.json`` or GGUF header of a provided model does not state them.
        """
        root = next(each for each in artifact.walk() if is_root(each))
        if "given" not in root.settings:
            return tiny_dims(root.settings["architecture"], root.settings["vocab_size"])
        source = parse(root.inputs["given"]["option"], root.inputs["given"]["weights"], words=())
        path = config_of(source)
        stored = format_of(path)
        return dims_of(stored.config(path), parameters=None if stored.problem(path) else stored.parameters(path))

    def weights(self, artifact: Artifact) -> int:
        """Count the weights of the model behind an artifact; 0 if they are unknown."""
        try:
            return self.shape(artifact).parameters
        except UserError:
            return 0

    def layers(self, artifact: Artifact) -> int:
        """Count the decoder layers of the model behind an artifact; 0 if they are unknown."""
        try:
            return self.shape(artifact).layers
        except UserError:
            return 0

    def tokens(self, fact: Example) -> int:
        """Estimate the tokens of a fact's question and answer with the prompt around them."""
        return estimated_tokens(fact, self._prompt_tokens)

    def scored(self, fact: Example) -> int:
        """Estimate the tokens of a fact's answer, including the end token."""
        return estimated_length(fact.answer) + 1

    def inference_load(
        self, facts: Sequence[Example], *, texts: int, prompts: int, generated: int, shared: bool, gradient: bool
    ) -> InferenceLoad:
        """Describe the inference of the run's model on some facts; see :class:`InferenceLoad`."""
        return InferenceLoad(
            texts=texts, prompts=prompts, weight_bytes=self._weight_bytes, tokens=max(map(self.tokens, facts)),
            scored=max(map(self.scored, facts)), generated=generated, shared=shared, gradient=gradient, gpu=self.gpu,
            parallel_stages=self._parallel_stages,
        )  # fmt: skip

    def teacher_load(self, *, dtype: str, prompts: int, tokens: int, generated: int) -> InferenceLoad:
        """Describe the inference of a language model that writes inverted facts or prompts."""
        return InferenceLoad(
            texts=0, prompts=prompts, weight_bytes=DTYPE_BYTES[dtype], tokens=tokens,
            scored=0, generated=generated, shared=False, gradient=False, gpu=self.gpu,
            parallel_stages=self._parallel_stages,
        )  # fmt: skip

    def estimate(self, artifact: Artifact, work: Work | None, *, disk: int) -> Requirements:
        """Estimate the requirements of an artifact.

        Args:
            artifact: The artifact.
            work: The work of its stage; ``None`` for a stage without a model.
            disk: Bytes of its result besides a model and the manifest.
        """
        disk += MANIFEST_BYTES
        if work is None:
            return replace(NOTHING, disk=disk, items=len(self.dataset.facts("forget")))
        try:
            shape = self.shape(artifact)
        except UserError:  # unknown form of config.json: the model may run, but its size cannot be estimated
            return replace(NOTHING, disk=disk)
        if isinstance(work, TrainingWork):
            return self._training(artifact, shape, work)
        memory = inference_need(
            shape, work.load, rows=work.rows, available=self.available - work.resident_bytes,
            generation_batch_size=work.generation_batch_size,
        )  # fmt: skip
        memory = replace(memory, weights=memory.weights + work.resident_bytes)
        return Requirements(
            memory=memory, disk=disk, passing=0, flops=float(self._inference_flops(shape, work)),
            parameters=shape.parameters, items=work.items,
        )  # fmt: skip

    def fitting(self, artifact: Artifact) -> list[tuple[str, int]]:
        """List settings under which an artifact would fit into the free memory, with the bytes it then requires."""
        planner = self.during(artifact)
        work = stage(artifact.stage).describe_work(artifact, planner)
        if work is None:
            return []
        shape = self.shape(artifact)
        if isinstance(work, InferenceWork):
            return inference_settings_that_fit(
                shape, work.load, rows=work.rows, generation_batch_size=work.generation_batch_size,
                available=self.available - work.resident_bytes,
            )  # fmt: skip
        settings, load = self._memory_settings(artifact), planner.training_load(artifact, work)
        fitting = settings_that_fit(shape, settings, load, available=self.available)
        return [each for each in fitting if work.adapters_possible or "lora" not in each[0]]

    def during(self, artifact: Artifact) -> Planner:
        """Return a planner with the dataset as it is during the artifact's request to forget, if it serves one."""
        dataset = during_request(self.dataset, artifact.inputs)
        if dataset is self.dataset:
            return self
        planner = copy.copy(self)
        planner.dataset = dataset
        return planner

    def training_load(self, artifact: Artifact, work: TrainingWork) -> TrainingLoad:
        """Describe a training by what determines its memory."""
        trained = [fact for stream in work.streams for fact in stream]
        rows = [*trained, *work.gradients]
        return TrainingLoad(
            streams=len(work.streams),
            batch=largest_step(
                len(work.streams[0]), artifact.settings["recipe"], shortest=min(map(self.tokens, trained))
            ),
            tokens=max(map(self.tokens, rows)), scored=max(map(self.scored, rows)),
            shared=not self.gpu, slack=GPU_SLACK if self.gpu else HEAP_SLACK, watched=work.evaluated,
            reference=artifact.inputs.get("reference") in ("model", "both"), anchored="anchor" in artifact.needs,
            gradients=bool(work.gradients),
        )  # fmt: skip

    def _training(self, artifact: Artifact, shape: ModelDims, work: TrainingWork) -> Requirements:
        recipe, streams = artifact.settings["recipe"], work.streams
        settings, load = self._memory_settings(artifact), self.training_load(artifact, work)
        trained = shape.parameters if settings.rank is None else lora_parameters(shape, rank=settings.rank)
        kept = shape.parameters * self._weight_bytes + shape.vocabulary * TOKENIZER_BYTES
        flops = training_flops(
            shape, tokens=round(recipe["epochs"] * self._per_epoch(work, self.tokens)),
            scored=round(recipe["epochs"] * self._per_epoch(work, self.scored)),
            gradient_checkpointing=settings.gradient_checkpointing, adapters=settings.rank is not None,
            reference=load.reference,
        )  # fmt: skip
        flops += training_flops(
            shape, tokens=sum(map(self.tokens, work.gradients)), scored=sum(map(self.scored, work.gradients)),
            gradient_checkpointing=False, adapters=False, reference=False,
        )  # fmt: skip
        return Requirements(
            memory=peak_need(shape, settings, load), disk=kept,
            passing=disk_needed(shape, weight_bytes=settings.weight_bytes, saved_bytes=0, trained=trained),
            flops=float(flops), parameters=shape.parameters, items=len(streams[0]),
        )  # fmt: skip

    def _memory_settings(self, artifact: Artifact) -> MemorySettings:
        lora = artifact.settings["model"]["lora"]
        return MemorySettings(
            micro_batch_size=self.trainer["micro_batch_size"], micro_batch_tokens=self.trainer["micro_batch_tokens"],
            gradient_checkpointing=self.trainer["gradient_checkpointing"], rank=None if lora is None else lora["rank"],
            init="default" if lora is None else lora.get("init", "default"), precision=self.model["precision"],
            devices=self.trainer["devices"],
            optimizer=artifact.settings["recipe"].get("optimizer", "adamw"),
            strategy=self.trainer["strategy"], perturbed="sam_rho" in artifact.settings["recipe"],
        )  # fmt: skip

    @staticmethod
    def _inference_flops(shape: ModelDims, work: InferenceWork) -> int:
        return inference_flops(shape, tokens=work.tokens, scored=work.scored) + training_flops(
            shape, tokens=work.gradient_tokens, scored=work.gradient_scored, gradient_checkpointing=False,
            adapters=False, reference=False,
        )  # fmt: skip

    @property
    def _weight_bytes(self) -> int:
        """Bytes per weight of a saved model."""
        return DTYPE_BYTES[weights_dtype(self.model["precision"])]

    @property
    def _parallel_stages(self) -> int:
        return 1 if self.gpu else int(self.trainer["parallel_stages"])

    @staticmethod
    def _per_epoch(work: TrainingWork, count: Callable[[Example], int]) -> float:
        """Sum a count over the rows and passes of an epoch; every stream gives as many rows as the first has."""
        first, extra = len(work.streams[0]), work.extra or [0.0] * len(work.streams)
        counted = [sum(map(count, stream)) / len(stream) * first for stream in work.streams]
        return sum(each * (1 + more) for each, more in zip(counted, extra, strict=True))

    @cached_property
    def _prompt_tokens(self) -> int:
        """Tokens around a question: those of ``prompt.template``, or a constant for a tokenizer's chat template."""
        template = self.model["prompt"]["template"]
        return (
            FRAME
            if template in ("auto", "chat")
            else estimated_length(template) + estimated_length(str(self.model["prompt"]["answer_prefix"]))
        )
