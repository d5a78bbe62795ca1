"""The runs of a sweep as jobs: shared results first, each once, then the runs; each job writes an outcome file.

The submitting process relies neither on exit codes nor on what the cluster reports about a job: results are in the
store, and the outcome file records how the job ended. A job that disappeared without one was killed.
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.config.schema import RunConfig
from meow_lightning.errors import UserError
from meow_lightning.pipeline.runners import StageError
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.store import Store


@dataclass(frozen=True, kw_only=True)
class Task:
    """The work of a job, called in its process: a run, or results that several runs share.

    Attributes:
        name: Displayed name.
        config: The options of a run.
        keys: The results to compute; ``None`` for the whole run.
        outcome: The outcome file.
        visible: Value of ``CUDA_VISIBLE_DEVICES``; ``None`` to leave it to the cluster.
    """

    name: str
    config: RunConfig
    keys: tuple[str, ...] | None
    outcome: str
    visible: str | None

    def __call__(self) -> None:
        """Do the work and write the outcome file."""
        if int(os.environ.get("SLURM_PROCID", "0")):
            return  # on several nodes, the first process does the work and starts the others itself
        if self.visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.visible
        from meow_lightning.experiment import PROGRAM

        outcome: dict[str, Any] = {"ok": True}
        try:
            if self.keys is None:
                PROGRAM.run(self.config)
            else:
                PROGRAM.make(self.config, self.keys)
        except UserError as error:
            outcome = {"ok": False, "kind": "user", "message": str(error), "traceback": ""}
        except Exception as error:  # noqa: BLE001 - raised again by the process that submitted the job
            trace = traceback.format_exc()
            outcome = {"ok": False, "kind": "stage", "message": str(error), "traceback": trace}
        finally:
            PROGRAM.close()
        write_json(Path(self.outcome), outcome)

    def checkpoint(self) -> Any:
        """Resubmit the task: finished results are cached, interrupted ones resume."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def read_outcome(path: Path) -> Exception | None:
    """Read the error that a job ended with; ``None`` if it succeeded.

    Args:
        path: Its outcome file.
    """
    try:
        outcome = json.loads(path.read_bytes())
        if outcome["ok"]:
            return None
        if outcome["kind"] == "user":
            return UserError(outcome["message"])
        return StageError(outcome["traceback"] or outcome["message"])
    except (OSError, ValueError, TypeError, KeyError):
        return StageError(f"the outcome of a job cannot be read ({path}); rerun the same command to continue")


def missing(artifacts: Sequence[Artifact], store: Store) -> list[Artifact]:
    """List the results that must be computed: those missing, and those that need a missing one.

    Args:
        artifacts: Results, each after its needs.
        store: The store.
    """
    absent: dict[str, Artifact] = {}
    for artifact in artifacts:
        if store.find(artifact) is None or any(need.key in absent for need in artifact.needs.values()):
            absent[artifact.key] = artifact
    return list(absent.values())


def dependency_layers(wanted: Sequence[Sequence[Artifact]]) -> list[list[tuple[int, Artifact]]]:
    """Arrange missing results that several runs share in layers; returns (run index, result) per layer.

    The shared results that a result needs are all in earlier layers.

    Args:
        wanted: The missing results of each run, each after its needs.
    """
    counts = Counter(artifact.key for artifacts in wanted for artifact in artifacts)
    level: dict[str, int] = {}
    layers: list[list[tuple[int, Artifact]]] = []
    for run, artifacts in enumerate(wanted):
        for artifact in artifacts:
            if counts[artifact.key] < 2 or artifact.key in level:
                continue
            before = [level[need.key] for need in artifact.needs.values() if need.key in level]
            level[artifact.key] = layer = 1 + max(before, default=-1)
            if layer == len(layers):
                layers.append([])
            layers[layer].append((run, artifact))
    return layers
