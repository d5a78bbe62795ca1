"""Stages of the tests' own in the place of those of the package."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from meow_lightning.stages.base import Stage, StageContext


def module_of(name: str, run: Callable[[StageContext], None], *, outputs: tuple[str, ...] = ()) -> ModuleType:
    """A stage file whose stage computes with ``run``."""
    members = {"name": name, "version": 1, "after": (), "outputs": outputs, "run": lambda self, work: run(work)}
    module = ModuleType(f"meow_lightning.stages.{name}")
    module.Made = type("Made", (Stage,), members)  # type: ignore[attr-defined]
    return module
