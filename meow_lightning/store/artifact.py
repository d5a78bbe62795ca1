"""Result of a stage, addressed by the hash of everything that determines it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Artifact:
    """One result: its stage, its settings and the results it depends on.

    Attributes:
        stage: Stage name, also the name of its folder.
        label: Role within a run, for display: ``target``, ``retain``, ``unlearned`` …; not part of the key.
        version: The stage's VERSION; raising it makes old results stale.
        settings: The stage's settings, plain JSON values; every one of them affects the result.
        needs: The results it is computed from, by the names under which the stage reads them.
        inputs: Runtime inputs that are not part of the key: how to load the rows whose digests are in the settings, and
            whether they are private.
        components: Versions of the method, writer, measure or metrics that the stage uses, by name; raising one makes
            old results stale.
    """

    stage: str
    label: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, Artifact]
    inputs: Mapping[str, Any]
    components: Mapping[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> list[tuple[str, int]]:
        """The version of the stage and those of its components, by name."""
        return [(self.stage, self.version), *self.components.items()]

    @property
    def private(self) -> bool:
        """Whether it may contain texts of a private dataset: its files are then readable by their owner only."""
        return bool(self.inputs.get("private"))

    @cached_property
    def key(self) -> str:
        """Compute the key: twelve hex digits of the SHA-256 of stage, versions, settings and the keys of its needs."""
        content = {
            "stage": self.stage,
            "version": self.version,
            "components": self.components,
            "settings": self.settings,
            "needs": {name: need.key for name, need in self.needs.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]

    @property
    def title(self) -> str:
        """Stage and label, for display."""
        return f"{self.stage} {self.label}".strip()

    def walk(self) -> list[Artifact]:
        """List the artifact and its dependencies, each key once, dependencies first."""
        seen: dict[str, Artifact] = {}

        def visit(artifact: Artifact) -> None:
            if artifact.key not in seen:
                for need in artifact.needs.values():
                    visit(need)
                seen[artifact.key] = artifact

        visit(self)
        return list(seen.values())
