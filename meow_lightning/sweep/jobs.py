"""A sweep's cells as jobs: what is shared first, each result once, then the cells; what comes of a job is a file.

Who submits trusts neither exit codes nor what a cluster says of a job that ended well: results lie in the store, and
each job leaves a file that says how it ended. A job without one, that is no more, was killed.
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.errors import UserError
from meow_lightning.pipeline.runners import StageError
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a job does: a cell, or some results that several cells need. Called in the job's own process.

    Attributes:
        name: For people.
        options: Resolved options of a cell.
        keys: The results to make; ``None`` for the whole cell.
        outcome: The file that says how it ended.
        visible: The GPUs it may see, as CUDA counts them; ``None`` to leave that to the cluster.
    """

    name: str
    options: Mapping[str, Any]
    keys: tuple[str, ...] | None
    outcome: str
    visible: str | None

    def __call__(self) -> None:
        """Make it, and say how that ended."""
        if int(os.environ.get("SLURM_PROCID", "0")):
            return  # of a job on several nodes the first process works; it starts the others' work itself
        if self.visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible
        from meow_lightning.experiment import PROGRAM

        told: dict[str, Any] = {"ok": True}
        try:
            if self.keys is None:
                PROGRAM.run(self.options)
            else:
                PROGRAM.make(self.options, self.keys)
        except UserError as error:
            told = {"ok": False, "kind": "user", "message": str(error), "story": ""}
        except Exception as error:  # noqa: BLE001 - handed on to whoever submitted the job
            told = {"ok": False, "kind": "stage", "message": str(error), "story": traceback.format_exc()}
        finally:
            PROGRAM.close()
        write_json(Path(self.outcome), told)

    def checkpoint(self) -> Any:
        """The same task again: what is finished is found, what was begun is resumed."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def outcome(path: Path) -> Exception | None:
    """The error a job ended with, ``None`` where it ended well.

    Args:
        path: Its file.
    """
    try:
        told = json.loads(path.read_bytes())
        if told["ok"]:
            return None
        return UserError(told["message"]) if told["kind"] == "user" else StageError(told["story"] or told["message"])
    except (OSError, ValueError, TypeError, KeyError):
        return StageError(f"how a job ended cannot be read ({path}); the same command goes on from what is finished")


def missing(artifacts: Sequence[Artifact], store: Store) -> list[Artifact]:
    """What of some results must be made: it is not there, or something that it is made from is not.

    Args:
        artifacts: What each needs stands before it.
        store: Where they would be.
    """
    absent: dict[str, Artifact] = {}
    for artifact in artifacts:
        if store.find(artifact) is None or any(need.key in absent for need in artifact.needs.values()):
            absent[artifact.key] = artifact
    return list(absent.values())


def dependency_layers(wanted: Sequence[Sequence[Artifact]]) -> list[list[tuple[int, Artifact]]]:
    """(cell, result) of what several cells lack, in layers: each needs nothing shared but what is in layers before it.

    Args:
        wanted: What each cell lacks; what each result needs stands before it.
    """
    counts = Counter(artifact.key for each in wanted for artifact in each)
    level: dict[str, int] = {}
    found: list[list[tuple[int, Artifact]]] = []
    for cell, each in enumerate(wanted):
        for artifact in each:
            if counts[artifact.key] < 2 or artifact.key in level:
                continue
            before = [level[need.key] for need in artifact.needs.values() if need.key in level]
            level[artifact.key] = place = 1 + max(before, default=-1)
            if place == len(found):
                found.append([])
            found[place].append((cell, artifact))
    return found
