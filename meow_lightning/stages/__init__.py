"""The stages a run walks, one file each; the only code that knows both settings and work.

A stage file has ``VERSION``, an integer that moves when its results would come out differently, ``MAKES``, the files
without which a result is none, and ``run(work)``.
Stage files import what is heavy inside their functions, so that planning does not wait for torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

NAMES = ("finetune", "propose", "filter", "score", "verify", "unlearn", "predict", "evaluate", "report")
# These split their work over the processes of a job, where it is not for a single one; the others take seconds.
DISTRIBUTED = ("finetune", "propose", "score", "verify", "unlearn", "predict")


def stage(name: str) -> ModuleType:
    """The module of a stage."""
    return importlib.import_module(f"meow_lightning.stages.{name}")


def distributed(name: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a stage's work is split over the processes of a job; asking is where the writer computes by itself."""
    return name in DISTRIBUTED and inputs.get("runs_locally", True)
