"""Estimated duration and memory of stages, from their work and from measured stages; without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol, Self

from meow_lightning.resources.training_memory import ModelDims

# Source of an estimate: the result itself, one computed in the same way by a model of the same size, one computed
# differently or of another size, one by a model of a very different size, or none.
Source = Literal["took", "like", "size", "far", ""]

# Source of a stage's memory: its estimate, or its estimate corrected by the measured memory of like stages.
MemorySource = Literal["estimated", "measured"]

# Settings that select rows but not their processing.
ROW_SETTINGS = (
    "rows",
    "facts",
    "others",
    "sets",
    "seed",
    "splits",
)
SAME = 1.25  # maximum ratio of weights of two models of the same size
DISSIMILAR = 10.0  # ratio of weights above which an estimate is uncertain
SPREAD = 3.0  # uncertain estimates are within this factor of the actual time
LARGE = 1 / 3  # runs with a smaller share of the largest run's work are ignored: start-up dominates them


def inference_flops(shape: ModelDims, *, tokens: int, scored: int) -> int:
    """Count the floating-point operations of inference: 2 per weight and token, for the head at scored tokens only.

        2 (body * tokens + head * scored)

    Args:
        shape: The model's dimensions.
        tokens: Total tokens, including prompts.
        scored: Tokens with logits.
    """
    return 2 * (shape.body_parameters * tokens + shape.head_parameters * scored)


def training_flops(
    shape: ModelDims, *, tokens: int, scored: int, gradient_checkpointing: bool, adapters: bool, reference: bool
) -> int:  # fmt: skip
    """Count the floating-point operations of training on ``tokens`` tokens: 2, 2 and 2 per weight and token.

    They are the forward pass, the gradients of activations and the gradients of weights (not with adapters, which have
    few weights); gradient checkpointing adds a second forward pass, and so does a frozen reference model. Thus 6, with
    checkpointing 8, with adapters 4, with both 6 (Kaplan et al. 2020, section 2.1; without the T x T part of attention,
    which is small for short texts).
    """
    passes = 3 + gradient_checkpointing - adapters + reference
    return passes * inference_flops(shape, tokens=tokens, scored=scored)


def duration_key(label: str, settings: Mapping[str, Any]) -> str:
    """Identify how a result is computed, apart from its rows: stages with the same key have similar speed."""
    return json.dumps(
        [label, {key: value for key, value in settings.items() if key not in ROW_SETTINGS}], sort_keys=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of a stage.

    Attributes:
        flops: Floating-point operations; 0 if they do not dominate.
        parameters: Weights of the computing model; 0 without a model.
        items: Rows, questions or facts processed, which determine the time without a model.
    """

    flops: float
    parameters: int
    items: int

    @property
    def work(self) -> float:
        """The quantity that time is proportional to."""
        return self.flops or self.items

    def size_ratio(self, other: Workload) -> float:
        """Return the ratio of the two models' weights, at least 1; infinite if only one of them uses a model."""
        if bool(self.flops) != bool(other.flops):
            return math.inf
        if not self.flops:
            return 1.0
        return max(self.parameters, other.parameters) / max(1, min(self.parameters, other.parameters))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStage:
    """A measured stage: how it was computed (see :func:`duration_key`), its work, and its duration in seconds."""

    key: str
    workload: Workload
    seconds: float

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """Read the record from the manifest of a result."""
        workload = Workload(flops=manifest["flops"], parameters=manifest["parameters"], items=manifest["items"])
        return cls(
            key=duration_key(manifest["label"], manifest["settings"]), workload=workload, seconds=manifest["seconds"]
        )


def expected_seconds(workload: Workload, *, key: str, known: Sequence[MeasuredStage]) -> tuple[float | None, Source]:
    """Estimate the duration of some work in seconds, with the source of the estimate; ``None`` without similar stages.

        seconds = work / median of work' / seconds'

    over the measured stages with the model nearest in size, restricted to those computed in the same way, if any, and
    to those with at least a third of the largest one's work.

    Args:
        workload: The work.
        key: Its :func:`duration_key`.
        known: Measured stages of the same kind on the same kind of device.
    """
    similar = [each for each in known if each.workload.work > 0 and each.seconds > 0]
    nearest = min((workload.size_ratio(each.workload) for each in similar), default=math.inf)
    if not workload.work or math.isinf(nearest):
        return None, ""
    similar = [each for each in similar if workload.size_ratio(each.workload) <= nearest * SAME]
    same = [each for each in similar if each.key == key]
    largest = max(each.workload.work for each in same or similar)
    rates = [each.workload.work / each.seconds for each in same or similar if each.workload.work >= largest * LARGE]
    source: Source = "far" if nearest > DISSIMILAR else "like" if same and nearest <= SAME else "size"
    return workload.work / median(rates), source


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """The memory of a computed stage.

    Attributes:
        parameters: Number of weights of its model.
        estimate: Bytes that were estimated before it ran.
        peak: Bytes that it used at most.
    """

    parameters: int
    estimate: int
    peak: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any], *, gpu: bool) -> Self | None:
        """Read the record from the manifest of a result; ``None`` if it used no model or was not measured.

        Args:
            manifest: The manifest.
            gpu: Whether the memory of a GPU is estimated.
        """
        estimate, peak = manifest.get("memory"), manifest.get("peak_gpu_memory_mib" if gpu else "peak_memory_mib")
        if not estimate or not peak:
            return None
        return cls(parameters=manifest["parameters"], estimate=estimate, peak=round(peak * 2**20))


def expected_memory(estimate: int, *, parameters: int, known: Sequence[MeasuredMemory]) -> tuple[int, MemorySource]:
    """Correct the estimated peak memory of a stage by the measured peaks of like stages.

        memory = estimate * median of peak' / estimate'

    over the measured stages whose model and whose estimate are within a factor of 1.25: the same kind of work with
    about the same batch sizes. Without any, the estimate remains.

    Args:
        estimate: Estimated bytes.
        parameters: Number of weights of the model.
        known: Measured stages of the same name on the same kind and number of devices.

    Returns:
        The bytes and their source.
    """

    def alike(ours: int, theirs: int) -> bool:
        return max(ours, theirs) <= SAME * min(ours, theirs)

    ratios = [
        each.peak / each.estimate
        for each in known
        if each.estimate > 0 and alike(estimate, each.estimate) and alike(parameters, each.parameters)
    ]
    return (round(estimate * median(ratios)), "measured") if ratios else (estimate, "estimated")


class Sized(Protocol):
    """Anything with a number of weights, such as :class:`meow_lightning.resources.training_memory.ModelDims`."""

    @property
    def parameters(self) -> int:
        """Number of weights."""


def disk_needed(shape: Sized, *, weight_bytes: int, saved_bytes: int, trained: int) -> int:
    """Compute a training stage's peak disk usage in bytes: the saved model and two checkpoints, during replacement.

    A checkpoint has all weights and AdamW's two moments of the trained ones; adapters are at least float32.

    Args:
        shape: The model's dimensions.
        weight_bytes: Bytes per weight in training (4 for mixed precision; of the frozen weights with adapters).
        saved_bytes: Bytes per weight of the saved model.
        trained: Number of trained weights: ``shape.parameters``, or the adapters'.
    """
    adapters = trained < shape.parameters
    moving = 3 * trained * max(4, weight_bytes) if adapters else 2 * trained * weight_bytes
    return 2 * (shape.parameters * weight_bytes + moving) + shape.parameters * saved_bytes
