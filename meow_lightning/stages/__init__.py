"""The stages of a run, one file each; the only code that knows both the settings and the computation.

A stage file defines one subclass of :class:`meow_lightning.stages.base.Stage`. The stages are what this folder holds;
the order of their goals follows from ``Stage.after``.
Stage files import heavy libraries inside their functions, so that planning does not wait for torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from graphlib import TopologicalSorter

from meow_lightning.stages.base import Stage


def stage(name: str) -> Stage:
    """Import a stage.

    Raises:
        TypeError: Its file does not define it.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    for each in vars(module).values():
        if isinstance(each, type) and issubclass(each, Stage) and getattr(each, "name", None) == name:
            return each()
    raise TypeError(f"{module.__name__} defines no subclass of Stage with name = {name!r}")


def stages() -> dict[str, Stage]:
    """Import all stages: by name, each after the stages whose results it may need."""
    files = [each.name for each in pkgutil.iter_modules(__path__) if not each.ispkg and each.name != "base"]
    found = {name: stage(name) for name in sorted(files)}
    sorter = TopologicalSorter({name: each.after for name, each in found.items()})
    sorter.prepare()
    ordered: dict[str, Stage] = {}
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered |= {name: found[name] for name in ready}
        sorter.done(*ready)
    return ordered


def up_to(name: str) -> frozenset[str]:
    """Collect a stage and all stages whose results it may need within a round, directly or through others."""
    return frozenset({name}).union(*(up_to(each) for each in stage(name).after))
