"""Cost of unlearning in every run of a sweep: arithmetic, time and memory, from the manifests of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of unlearning, without that of the target model and of evaluation.

    Attributes:
        flops: Floating-point operations, as estimated from model and rows.
        seconds: Time, as measured when each stage was computed.
        memory_mib: Largest peak of a stage in MiB, on the GPU where one was used, else of the process; ``None`` if no
            stage has one.
    """

    flops: float
    seconds: float
    memory_mib: float | None


def total_cost(manifests: Sequence[Mapping[str, Any]]) -> Cost | None:
    """Add up the stages behind an unlearned model; ``None`` without any, as for a model that nothing was done to.

    Args:
        manifests: Manifests of the stages between the target and the unlearned model.
    """
    return add_up(manifests) if manifests else None


def add_up(manifests: Sequence[Mapping[str, Any]]) -> Cost:
    """Add up the cost of some stages, with the largest peak of memory.

    Args:
        manifests: Their manifests.
    """
    peaks = [each.get("peak_gpu_memory_mib") or each.get("peak_memory_mib") for each in manifests]
    return Cost(
        flops=sum(each.get("flops") or 0.0 for each in manifests),
        seconds=sum(each["seconds"] for each in manifests),
        memory_mib=max((peak for peak in peaks if peak is not None), default=None),
    )


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Average over seeds, with the largest peak of memory.

    Args:
        costs: Those of the runs, at least one.
    """
    return Cost(
        flops=fmean(each.flops for each in costs),
        seconds=fmean(each.seconds for each in costs),
        memory_mib=max((each.memory_mib for each in costs if each.memory_mib is not None), default=None),
    )
