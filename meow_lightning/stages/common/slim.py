"""Judged test questions of the SlimPLM probe, shared by `evaluate` and `report`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from meow_lightning.evaluation.checkpoint_selection import held_out
from meow_lightning.evaluation.slim import Judged, JudgeSettings, judge
from meow_lightning.stages.base import StageContext
from meow_lightning.stages.common.loading import load_dataset
from meow_lightning.stages.results.judge import JudgeResult
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.types import Role

READ = "read"  # setting: whether a language model judges


def judged_questions(
    work: StageContext, stored: Mapping[Role, Path], *, selection_fraction: float
) -> dict[Role, Judged | str]:
    """Train the judges and apply them to the models' test questions, or explain why not, by role.

    Args:
        work: The context of `evaluate` or `report`.
        stored: The stored answers, by role; empty for ``probe=none``.
        selection_fraction: Share of every set that no number counts because it was used to select an epoch.
    """
    if not stored:
        return {}
    given = dict(work.settings["probe"])
    read = given.pop(READ, False)
    settings = JudgeSettings(**given)
    sizes = {name: len(each) for name, each in load_dataset(work).evaluation().items()} if selection_fraction else {}
    left_out = {name: held_out(name, size, selection_fraction) for name, size in sizes.items()}

    def of_model(folder: Path) -> Judged | str:
        rows = SlimResult.read(folder).rows
        readings = JudgeResult.read(folder).readings if read else None
        counted = [row.index not in left_out.get(row.set, ()) for row in rows]
        return judge(rows, settings, counted=counted, readings=readings)

    return {role: of_model(folder) for role, folder in stored.items()}
