"""Metrics, one file each: a pure function of stored rows, with the class that defines and reports it.

Every metric of the files here is part of the suite, optional ones if ``evaluation.extra_metrics`` names them; nothing
else names them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Sequence

from meow_lightning.evaluation.answers import Need
from meow_lightning.evaluation.metric import Metric, RowMetric
from meow_lightning.types import SetInfo


@functools.cache
def all_metrics(extra: tuple[str, ...] = ()) -> tuple[Metric, ...]:
    """Create the metrics of this package, means over rows first, since other numbers may follow from them.

    Args:
        extra: Names of the optional metrics to include.
    """
    return tuple(each for each in _every_metric() if not each.optional or getattr(each, "name", None) in extra)


def optional_metrics() -> list[str]:
    """List the names of the optional metrics."""
    return sorted(str(vars(type(each))["name"]) for each in _every_metric() if each.optional)


@functools.cache
def _every_metric() -> tuple[Metric, ...]:
    metrics = [
        member()
        for file in pkgutil.iter_modules(__path__)
        for member in vars(importlib.import_module(f"{__name__}.{file.name}")).values()
        if isinstance(member, type)
        and issubclass(member, Metric)
        and member.__module__ == f"{__name__}.{file.name}"
        and not inspect.isabstract(member)
    ]
    return tuple(sorted(metrics, key=lambda metric: not isinstance(metric, RowMetric)))


def sets_that_need(need: Need, sets: Sequence[SetInfo]) -> list[str]:
    """Name the sets of which some metric needs something, in their order.

    Args:
        need: What is needed.
        sets: The sets that will be predicted.
    """
    readers = [metric.reads(sets) for metric in all_metrics() if need in metric.needs]
    return [info.name for info in sets if any(info in read for read in readers)]
