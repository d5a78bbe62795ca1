"""Metrics, one file each: a pure function of stored rows, with the class that defines and reports it.

Every metric of the files here is part of the suite; nothing else names them.
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
def all_metrics() -> tuple[Metric, ...]:
    """Create every metric of this package, means over rows first, since other numbers may follow from them."""
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
