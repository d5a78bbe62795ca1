"""The artifacts of one cell, by name, and what of them a goal needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meow_lightning.config import choose
from meow_lightning.stages import NAMES
from meow_lightning.store import Artifact
from meow_lightning.types import UserError


@dataclass(frozen=True)
class Graph:
    """The artifacts of one cell.

    Attributes:
        name: Readable name of the cell.
        streams: What the cell's method trains on.
        artifacts: All results by a unique readable name such as ``answer/unlearned``.
    """

    name: str
    streams: tuple[str, ...]
    artifacts: Mapping[str, Artifact]

    @property
    def report(self) -> Artifact:
        """The last artifact."""
        return self.artifacts["report"]

    @property
    def tag(self) -> str:
        """The cell's name with the start of its key: the name of its files."""
        return f"{self.name}-{self.report.key[:6]}"

    def goal(self, name: str) -> list[Artifact]:
        """What a stage makes for this cell without any later stage, and all it needs; each once, needs first.

        Raises:
            UserError: When there is no such stage, or the cell's method does without it.
        """
        choose("goal", name, NAMES)
        wanted = (name, "verify") if name == "score" else (name,)  # who asks for scores to be verified wants both
        last = max(map(NAMES.index, wanted))

        def early(artifact: Artifact) -> bool:
            # A loop measures before it unlearns again: its last model is wanted all the same.
            return name == "unlearn" or all(NAMES.index(each.stage) <= last for each in artifact.walk())

        seen = needed(each for each in self.artifacts.values() if each.stage in wanted and early(each))
        if not seen and name == "verify":
            raise UserError("goal=verify checks nothing with memo.verify=0; say memo.verify=100 to check 100 windows")
        if not seen:
            raise UserError(f"goal={name}: {self.name} has no such stage; leave the goal out or choose another method")
        return seen


def needed(wanted: Iterable[Artifact]) -> list[Artifact]:
    """Some artifacts and all that they are made from; each once, needs first."""
    return list({each.key: each for artifact in wanted for each in artifact.walk()}.values())


def cell_name(options: Mapping[str, Any]) -> str:
    """The readable name of a cell: model, dataset, split, method, seed."""
    split = options["dataset"].get("split", "")
    parts = [
        options["model"]["name"],
        options["dataset"]["name"],
        split,
        options["method"]["name"],
        f"s{options['seed']}",
        "debug" if options["warning"] else "",
    ]
    return "-".join(part for part in parts if part)
