"""The stages a cell walks, one file each; the only code that knows both settings and work.

A stage file has ``VERSION``, an integer that moves when its results would come out differently, ``MAKES``, the files
without which a result is none, and ``run(work)``.
Stage files import what is heavy inside their functions, so that planning does not wait for torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType

NAMES = ("finetune", "invert", "score", "verify", "unlearn", "answer", "evaluate", "report")
# These split their work over the processes of a job; the others take seconds in one.
DISTRIBUTED = ("finetune", "score", "verify", "unlearn", "answer")


def stage(name: str) -> ModuleType:
    """The module of a stage."""
    return importlib.import_module(f"meow_lightning.stages.{name}")
