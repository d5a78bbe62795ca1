"""Resource requirements of each artifact: memory by parts, disk and operations, derived from shapes alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from meow_lightning.config.precision import DTYPE_BYTES, weights_dtype
from meow_lightning.data.encoding import FRAME, estimated_length, estimated_tokens
from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import missing_weights, parameters
from meow_lightning.models.sources import config_of, parse
from meow_lightning.planning.ability import ability_flops, ability_memory, question_count
from meow_lightning.planning.disk import bytes_written
from meow_lightning.resources.cost import disk_needed, inference_flops, training_flops
from meow_lightning.resources.inference_memory import InferenceLoad, inference_need, inference_settings_that_fit
from meow_lightning.resources.suggestions import settings_that_fit
from meow_lightning.resources.training_memory import (
    GPU_SLACK,
    HEAP_SLACK,
    Memory,
    MemorySettings,
    ModelDims,
    TrainingLoad,
    dims_of,
    lora_parameters,
    tiny_dims,
    training_need,
)
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Dataset, Fact

LETTERS = {"characters": 1, "words": 6, "tokens": 4}  # rough length of the units that MEMO cuts by
TOKENIZER_BYTES = 75  # tokenizer file size per vocabulary entry: 72 for SmolLM2, 134 for Llama 3


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


def _scored(fact: Fact) -> int:
    """Estimate the tokens of a fact's answer, including the end token."""
    return estimated_length(fact.answer) + 1


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


class ResourceRequirements:
    """The resource requirements of the artifacts of a run.

    Args:
        options: Resolved options of the run.
        dataset: Its dataset.
        streams: The streams that its method trains on.
        gpu: Whether stages run on a GPU.
        available: Free bytes for a stage.
    """

    def __init__(
        self, options: Mapping[str, Any], *, dataset: Dataset, streams: Sequence[str], gpu: bool, available: int
    ) -> None:
        self.options, self.dataset, self.streams, self.gpu, self.available = options, dataset, streams, gpu, available
        self.trainer, self.model = options["trainer"], options["model"]

    def shape(self, artifact: Artifact) -> ModelDims:
        """Determine the dimensions of the model that an artifact trains or runs.

        Raises:
            UserError: The ``config.json`` of a provided model does not state them.
        """
        root = next(each for each in artifact.walk() if each.stage == "finetune" and not each.needs)
        if "given" not in root.settings:
            return tiny_dims(root.settings["architecture"], root.settings["vocab_size"])
        source = parse(root.inputs["given"]["option"], root.inputs["given"]["weights"], words=())
        folder = config_of(source)
        return dims_of(
            json.loads((folder / "config.json").read_text(encoding="utf-8")),
            parameters=None if missing_weights(folder) else parameters(folder),
        )

    def size(self, artifact: Artifact) -> Requirements:
        """Estimate the requirements of an artifact."""
        if "given" in artifact.settings:
            return replace(NOTHING, items=self._weights(artifact))  # its files are only read for their digests
        if artifact.stage in ("filter", "evaluate", "report") or (
            artifact.stage == "propose" and "teacher" not in artifact.needs
        ):
            items = len(self.dataset.facts("forget"))
            return replace(NOTHING, disk=bytes_written(artifact, self.options, self.dataset), items=items)
        try:
            shape = self.shape(artifact)
        except UserError:  # unknown form of config.json: the model may run, but its size cannot be estimated
            return replace(NOTHING, disk=bytes_written(artifact, self.options, self.dataset))
        if artifact.stage == "propose":
            return self._generation(artifact, shape)
        if artifact.stage == "ability":
            return Requirements(
                memory=ability_memory(shape, weight_bytes=self._weight_bytes, gpu=self.gpu), passing=0,
                disk=bytes_written(artifact, self.options, self.dataset), parameters=shape.parameters,
                flops=float(ability_flops(shape, artifact)), items=question_count(artifact),
            )  # fmt: skip
        if artifact.stage in ("score", "verify", "predict"):
            return self._inference(artifact, shape)
        return self._training(artifact, shape)

    def _weights(self, artifact: Artifact) -> int:
        try:
            return self.shape(artifact).parameters
        except UserError:
            return 0

    def _training(self, artifact: Artifact, shape: ModelDims) -> Requirements:
        recipe, streams = artifact.settings["recipe"], self._streams(artifact)
        settings, load = self._memory_settings(artifact), self._load(artifact, streams)
        trained = shape.parameters if settings.rank is None else lora_parameters(shape, rank=settings.rank)
        kept = shape.parameters * self._weight_bytes + shape.vocabulary * TOKENIZER_BYTES
        flops = training_flops(
            shape, tokens=round(recipe["epochs"] * sum(self._per_epoch(streams, self._tokens))),
            scored=round(recipe["epochs"] * sum(self._per_epoch(streams, _scored))),
            gradient_checkpointing=settings.gradient_checkpointing, adapters=settings.rank is not None,
            reference=load.reference,
        )  # fmt: skip
        return Requirements(
            memory=training_need(shape, settings, load), disk=kept,
            passing=disk_needed(shape, weight_bytes=settings.weight_bytes, saved_bytes=0, trained=trained),
            flops=float(flops), parameters=shape.parameters, items=len(streams[0]),
        )  # fmt: skip

    def _memory_settings(self, artifact: Artifact) -> MemorySettings:
        lora = artifact.settings["model"]["lora"]
        return MemorySettings(
            micro_batch_size=self.trainer["micro_batch_size"], micro_batch_tokens=self.trainer["micro_batch_tokens"],
            gradient_checkpointing=self.trainer["gradient_checkpointing"], rank=None if lora is None else lora["rank"],
            precision=self.model["precision"], devices=self.trainer["devices"],
            optimizer=artifact.settings["recipe"].get("optimizer", "adamw"),
            strategy=self.trainer["strategy"],
        )  # fmt: skip

    def _load(self, artifact: Artifact, streams: Sequence[Sequence[Fact]]) -> TrainingLoad:
        unlearns, curves, recipe = artifact.stage == "unlearn", self.options["callbacks"], artifact.settings["recipe"]
        watched = any(curves[name] for name in ("memo_every_epochs", "memo_every_steps", "evaluate_every_epochs"))
        rows = [fact for stream in streams for fact in stream]
        return TrainingLoad(
            streams=len(streams), batch=largest_step(len(streams[0]), recipe, shortest=min(map(self._tokens, rows))),
            tokens=max(map(self._tokens, rows)), scored=max(map(_scored, rows)),
            shared=not self.gpu, slack=GPU_SLACK if self.gpu else HEAP_SLACK,
            watched=unlearns and (watched or "checkpoint" in artifact.settings),
            reference=artifact.inputs.get("reference") in ("model", "both"),
        )  # fmt: skip

    @property
    def _weight_bytes(self) -> int:
        """Bytes per weight of a saved model."""
        return DTYPE_BYTES[weights_dtype(self.model["precision"])]

    def _streams(self, artifact: Artifact) -> list[list[Fact]]:
        """List the rows of each stream of a training; the first stream determines the rows of an epoch."""
        if artifact.stage == "unlearn":
            picked = self.options["method"].get("select", {}).get("k", 1)
            splits = [
                ("forget", picked if name == "inverted" else 1) if name in ("inverted", "idk") else (name, 1)
                for name in self.streams
            ]
            return [[fact for fact in self.dataset.facts(split) for _ in range(times)] for split, times in splits]
        recipe, splits = artifact.settings["recipe"], artifact.settings["splits"]
        if not splits:
            return [self.dataset.pretraining_examples(recipe["rows"], artifact.settings["seed"])]
        facts = [fact for split in splits for fact in self.dataset.facts(split)]
        phrased = [
            replace(fact, question=question, answer=answer)
            for fact in facts
            for question, answer in fact.phrasings
        ]  # fmt: skip
        replayed = (
            self.dataset.pretraining_examples(recipe["replay"], artifact.settings["seed"] + 1)
            if recipe["replay"]
            else []
        )
        return [[*facts, *phrased, *replayed]]

    @staticmethod
    def _per_epoch(streams: Sequence[Sequence[Fact]], count: Callable[[Fact], int]) -> Iterator[float]:
        """Sum a count over the rows of an epoch for each stream; every stream gives as many rows as the first has."""
        for stream in streams:
            yield sum(map(count, stream)) / len(stream) * len(streams[0])

    def _tokens(self, fact: Fact) -> int:
        return estimated_tokens(fact, self._prompt_tokens)

    @cached_property
    def _prompt_tokens(self) -> int:
        """Tokens around a question: those of ``prompt.template``, or a constant for a tokenizer's chat template."""
        template = self.model["prompt"]["template"]
        return (
            FRAME
            if template in ("auto", "chat")
            else estimated_length(template) + estimated_length(str(self.model["prompt"]["answer_prefix"]))
        )

    def _prompted_facts(self, artifact: Artifact) -> list[Fact]:
        """List the facts that a model is prompted with; a fact in several evaluation sets counts in each."""
        if artifact.stage == "predict":
            return [fact for each in self.dataset.evaluation().values() for fact in each]
        return self.dataset.facts("forget")

    def _inference_load(self, artifact: Artifact) -> tuple[list[Fact], InferenceLoad]:
        facts = self._prompted_facts(artifact)
        longest = max(map(_scored, facts))
        answers = artifact.stage == "predict"
        settings = self.options["evaluation" if answers else "memo"]
        generated = settings.get("max_new_tokens", longest)
        if answers:  # generation covers the longest true answer
            generated = max(generated, longest)
        return facts, InferenceLoad(
            texts=sum(2 + len(fact.perturbed) for fact in facts) if answers else 0,
            prompts=len(facts) if answers else sum(self._windows(artifact, facts)),
            weight_bytes=self._weight_bytes, tokens=max(map(self._tokens, facts)), scored=longest,
            generated=generated, shared=artifact.stage == "score",
            gradient=bool(self._gradient_facts(artifact)), gpu=self.gpu,
            parallel_stages=1 if self.gpu else self.trainer["parallel_stages"],
        )  # fmt: skip

    def _windows(self, artifact: Artifact, facts: Sequence[Fact]) -> list[int]:
        """Estimate the number of windows in each fact's texts."""
        each = self.options["inversion"].get("candidates", 1) if "filtered" in artifact.needs else 1
        step = self.options["memo"].get("stride", 1) * LETTERS[self.options["memo"].get("cut_unit", "tokens")]
        return [each * (len(fact.answer) // step + 1) for fact in facts]

    def _gradient_facts(self, artifact: Artifact) -> list[Fact]:
        """List the facts whose true answers need a gradient."""
        names = artifact.settings["evaluation"]["gradients"] if artifact.stage == "predict" else ()
        return [fact for name in names for fact in self.dataset.evaluation()[name]]

    def _scored(self, artifact: Artifact) -> int:
        return self.trainer["eval_batch_size"] if artifact.stage == "predict" else 0  # other stages only generate

    def _teacher_load(self) -> tuple[int, InferenceLoad]:
        """Return the number of requests and the inference load of a teacher that is prompted with every fact."""
        facts, node = self.dataset.facts("forget"), self.options["inversion"]
        words = sum(len(str(text)) for name, text in node["prompt"].items() if name != "version")
        tokens = estimated_length("a" * words) + max(map(estimated_tokens, facts))
        return len(facts), InferenceLoad(
            texts=0, prompts=len(facts), weight_bytes=DTYPE_BYTES[node["dtype"]], tokens=tokens, scored=0,
            generated=node["max_new_tokens"], shared=False, gradient=False, gpu=self.gpu,
            parallel_stages=1 if self.gpu else self.trainer["parallel_stages"],
        )  # fmt: skip

    def _generation(self, artifact: Artifact, shape: ModelDims) -> Requirements:
        questions, load = self._teacher_load()
        memory = inference_need(
            shape, load, rows=0, available=self.available, generation_batch_size=self.trainer["generation_batch_size"]
        )
        flops = inference_flops(
            shape, tokens=questions * (load.tokens + load.generated), scored=questions * load.generated
        )
        return Requirements(
            memory=memory, disk=bytes_written(artifact, self.options, self.dataset), passing=0, flops=float(flops),
            parameters=shape.parameters, items=questions,
        )  # fmt: skip

    def _inference(self, artifact: Artifact, shape: ModelDims) -> Requirements:
        facts, load = self._inference_load(artifact)
        memory = inference_need(
            shape, load, rows=self._scored(artifact), available=self.available,
            generation_batch_size=1 if artifact.stage == "verify" else self.trainer["generation_batch_size"],
        )  # fmt: skip
        return Requirements(
            memory=memory, disk=bytes_written(artifact, self.options, self.dataset), passing=0,
            flops=float(self._inference_flops(artifact, shape, facts, load)), parameters=shape.parameters,
            items=len(facts),
        )  # fmt: skip

    def _inference_flops(self, artifact: Artifact, shape: ModelDims, facts: Sequence[Fact], load: InferenceLoad) -> int:
        if artifact.stage == "predict":
            # The texts of a question share its prompt; it is read again to generate an answer of similar length.
            scored = sum(_scored(fact) * (3 + len(fact.perturbed)) for fact in facts)
            tokens = scored + sum(2 * (self._tokens(fact) - _scored(fact)) for fact in facts)
            gradient_facts = self._gradient_facts(artifact)
            return inference_flops(shape, tokens=tokens, scored=scored) + training_flops(
                shape, tokens=sum(map(self._tokens, gradient_facts)), scored=sum(map(_scored, gradient_facts)),
                gradient_checkpointing=False, adapters=False, reference=False,
            )  # fmt: skip
        if artifact.stage == "verify":
            windows, read, wrote = artifact.settings["windows"], load.tokens, load.scored
            return inference_flops(shape, tokens=windows * (read + wrote), scored=windows * wrote)
        # The windows of a text share their prefixes; each generates the rest, on average half of the text.
        wrote = sum(n * _scored(fact) // 2 for n, fact in zip(self._windows(artifact, facts), facts, strict=True))
        return inference_flops(shape, tokens=wrote + sum(map(self._tokens, facts)), scored=wrote)

    def fitting(self, artifact: Artifact) -> list[tuple[str, int]]:
        """List settings under which an artifact would fit into the free memory, with the bytes it then requires."""
        shape = self.shape(artifact)
        if artifact.stage in ("finetune", "unlearn"):
            training = self._load(artifact, self._streams(artifact))
            fitting = settings_that_fit(shape, self._memory_settings(artifact), training, available=self.available)
            # A model trained from scratch cannot use adapters.
            return [each for each in fitting if artifact.needs or "lora" not in each[0]]
        if artifact.stage == "ability":
            return []
        load = self._teacher_load()[1] if artifact.stage == "propose" else self._inference_load(artifact)[1]
        rows = 0 if artifact.stage == "propose" else self._scored(artifact)
        return inference_settings_that_fit(
            shape,
            load,
            rows=rows,
            generation_batch_size=self.trainer["generation_batch_size"],
            available=self.available,
        )
