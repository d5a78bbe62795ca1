"""Checks of ability tasks before any work."""

from __future__ import annotations

from collections.abc import Sequence

from meow_lightning.evaluation.ability_task import TARGET
from meow_lightning.pipeline.worker import silence_third_party
from meow_lightning.stages.ability import local_questions
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store


def check_abilities(artifacts: Sequence[Artifact], store: Store) -> list[str]:
    """Load the harness's tasks that will run, so that an invalid or unreachable one is reported before any work.

    Args:
        artifacts: The artifacts of the run's goal.
        store: The store of results.

    Returns:
        Notes on tasks that cannot run.

    Raises:
        UserError: A task is invalid, unknown or cannot be loaded.
    """
    tasks = {
        each.settings["task"]: each
        for each in artifacts
        if each.stage == "ability" and store.find(each) is None and TARGET not in each.settings.get("config", {})
    }
    if tasks:
        silence_third_party()  # before they are imported, since this process may run stages later
    for name, artifact in tasks.items():
        from meow_lightning.evaluation.harness import HarnessTask

        settings, local = artifact.settings, local_questions(artifact.settings, artifact.inputs)
        HarnessTask(
            name, config=settings.get("config"), local=local, num_fewshot=settings["num_fewshot"],
            limit=settings["limit"],
        )  # fmt: skip
    unmeasured = [
        task for each in artifacts if each.stage == "evaluate" for task in each.settings.get("unmeasured", ())
    ]
    return [f"{each['task']} is not measured: {each['reason']}" for each in unmeasured]
