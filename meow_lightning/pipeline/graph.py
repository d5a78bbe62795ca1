"""The artifacts of one cell, by name, and what of them a goal needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meow_lightning.errors import UserError, check_choice
from meow_lightning.stages import NAMES
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.folders import NAME_BYTES

LONGEST = 64  # characters of a name
NAME = re.compile(rf"[^\W_][\w+=.-]{{0,{LONGEST - 1}}}")
ROOM = 35  # bytes of a file's name for what comes before and after the cell's


@dataclass(frozen=True)
class Graph:
    """The artifacts of one cell.

    Attributes:
        name: Readable name of the cell.
        streams: What the cell's method trains on.
        artifacts: All results by a unique readable name such as ``predict/unlearned``.
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
        check_choice("goal", name, NAMES)
        wanted = (name, "verify") if name == "score" else (name,)  # who asks for scores to be verified wants both
        last = max(map(NAMES.index, wanted))

        def early(artifact: Artifact) -> bool:
            # A loop measures before it unlearns again: its last model is wanted all the same.
            return name == "unlearn" or all(NAMES.index(each.stage) <= last for each in artifact.walk())

        seen = required_artifacts(each for each in self.artifacts.values() if each.stage in wanted and early(each))
        if not seen and name == "verify":
            raise UserError("goal=verify checks nothing with memo.verify=0; say memo.verify=100 to check 100 windows")
        if not seen:
            raise UserError(f"goal={name}: {self.name} has no such stage; leave the goal out or choose another method")
        return seen


def required_artifacts(wanted: Iterable[Artifact]) -> list[Artifact]:
    """Some artifacts and all that they are made from; each once, needs first."""
    return list({each.key: each for artifact in wanted for each in artifact.walk()}.values())


def run_name(options: Mapping[str, Any]) -> str:
    """The readable name of a cell: model, dataset, split, method, seed. Files are called by it.

    Raises:
        UserError: One of these is no part of a file's name.
    """
    named = {f"{group}.name": options[group]["name"] for group in ("model", "dataset", "method")}
    named["dataset.split"] = options["dataset"].get("split", "")
    for option, name in named.items():
        if name and not NAME.fullmatch(str(name)):
            raise UserError(
                f"{option}={str(name)[:80]} is no name: files are called by it, so it may hold letters, digits and "
                f"_ + = . -, begins with a letter or digit, and has at most {LONGEST} of them"
            )
    model, dataset, method, split = (str(name) for name in named.values())
    parts = [model, dataset, split, method, f"s{options['seed']}", "debug" if options["disclaimer"] else ""]
    name = "-".join(part for part in parts if part)
    if len(name.encode()) > NAME_BYTES - ROOM:
        raise UserError(
            f"the names of model, dataset, split and method have {len(name.encode())} bytes together, and files that "
            f"are called by them have room for {NAME_BYTES - ROOM}; choose a shorter model.name or dataset.name"
        )
    return name
