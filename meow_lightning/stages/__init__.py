"""The stages of a run, one file each; the only code that knows both the settings and the computation.

A stage file defines ``VERSION``, an integer that is raised when all of its results would change; ``MAKES``, the files
that every complete result contains; and ``run(work)``. A change to a single method, writer, measure or metric raises
only the version of that component.
Stage files import heavy libraries inside their functions, so that planning does not wait for torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

NAMES = ("finetune", "propose", "filter", "score", "verify", "unlearn", "predict", "ability", "evaluate", "report")
# Stages that split their work over the processes of a job; the others take seconds.
DISTRIBUTED = ("finetune", "propose", "score", "verify", "unlearn", "predict", "ability")


def stage(name: str) -> ModuleType:
    """Import the module of a stage."""
    return importlib.import_module(f"meow_lightning.stages.{name}")


def distributed(name: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a stage is split over the processes of a job; ``propose`` only if its writer runs locally."""
    return name in DISTRIBUTED and inputs.get("runs_locally", True)
