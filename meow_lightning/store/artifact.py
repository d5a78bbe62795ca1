"""A result of a stage, named by the hash of everything that determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Artifact:
    """One result: which stage makes it, from which settings and which other results.

    Attributes:
        stage: Stage name, also the folder's.
        label: Whose result it is within a run, for people: ``target``, ``retain``, ``unlearned`` …; not in the key.
        version: The stage's VERSION; a new one makes old results stale.
        settings: The stage's own settings, plain JSON values; nothing in them may be without effect on the result.
        needs: The results it is made from, by the name the stage knows them by.
        inputs: How the stage gets at the rows whose digests stand in the settings, and whether they are private; not in
            the key.
    """

    stage: str
    label: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, Artifact]
    inputs: Mapping[str, Any]

    @property
    def private(self) -> bool:
        """Whether it may hold texts of a dataset that is not public: its files are then their owner's alone."""
        return bool(self.inputs.get("private"))

    @cached_property
    def key(self) -> str:
        """Twelve hex digits of the SHA-256 over stage, version, settings and the keys of what it needs."""
        content = {
            "stage": self.stage,
            "version": self.version,
            "settings": self.settings,
            "needs": {name: need.key for name, need in self.needs.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Stage and label, for people."""
        return f"{self.stage} {self.label}".strip()

    def walk(self) -> list[Artifact]:
        """The artifact and all it is made from, each key once, what is needed first."""
        seen: dict[str, Artifact] = {}

        def visit(artifact: Artifact) -> None:
            if artifact.key not in seen:
                for need in artifact.needs.values():
                    visit(need)
                seen[artifact.key] = artifact

        visit(self)
        return list(seen.values())
