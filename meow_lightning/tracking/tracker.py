"""Sends the curves and numbers of a run from the store to a metric sink: W&B, a CSV file, or none.

Stages write ``metrics.jsonl``; one tracker in the driver follows these files while they grow and replays those of
cached results, so that one process owns the run of the sink and every curve is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import write_json
from meow_lightning.store.folders import owner_only
from meow_lightning.tracking.base import MetricSink
from meow_lightning.tracking.curve import CURVE


class SyncedKeys:
    """The results whose metrics a logger has received, kept in a file between executions of a run.

    Args:
        path: The file.
        private: Whether only the owner may read the file.

    Attributes:
        keys: The keys of these results.
        damaged: Whether the file cannot be read; then everything is sent again.
    """

    def __init__(self, path: Path, *, private: bool) -> None:
        self._path, self._private = path, private
        self.keys: set[str] = set()
        self.damaged = False
        try:
            stored = json.loads(path.read_bytes())
            self.damaged = not isinstance(stored, list) or not all(isinstance(key, str) for key in stored)
            self.keys = set() if self.damaged else set(stored)
        except FileNotFoundError:
            return
        except ValueError:  # includes bytes that are not UTF-8
            self.damaged = True

    def add(self, keys: Collection[str]) -> None:
        """Record that the logger has received these results too."""
        self.keys |= set(keys)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with owner_only(self._private):
            write_json(self._path, sorted(self.keys))


class Tracker:
    """Follows the stages of one run and feeds a sink.

    Args:
        sink: The destination of points.
        synced: Keys of results whose curves the sink already has from an earlier execution.
    """

    def __init__(self, *, sink: MetricSink, synced: Collection[str]) -> None:
        self.sink, self._synced = sink, synced
        self.finished_keys: set[str] = set()
        self._offsets: dict[str, tuple[int, int]] = {}
        self._sent: set[tuple[object, ...]] = set()

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Send what running stages have newly written."""
        for artifact, folder in artifacts.values():
            self._follow(artifact, folder)

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, computed: bool) -> None:
        """Send the rest of a stage's curve, or all of it if the result was cached."""
        self._follow(artifact, folder)
        self.finished_keys.add(artifact.key)

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Do nothing: the curve is replayed once the result is available."""

    def notice(self, text: str) -> None:
        """Do nothing: notices are for the user."""

    def _follow(self, artifact: Artifact, folder: Path) -> None:
        if artifact.key in self._synced:
            return
        for point in self._new(artifact.key, folder / CURVE):
            mark = (artifact.key, point.get("step"), *sorted(point))
            if mark not in self._sent:
                self._sent.add(mark)
                self.sink.point(f"{artifact.stage} {artifact.label}".strip(), point)

    def _new(self, key: str, path: Path) -> Iterator[dict[str, Any]]:
        try:
            with path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                known, offset = self._offsets.get(key, (number, 0))
                if known != number:
                    offset = 0  # a resumed training rewrote its curve from its checkpoint on
                file.seek(offset)
                text = file.read()
        except OSError:
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._offsets[key] = (number, offset + len(complete))
        for line in complete.split(b"\n"):
            try:
                point = json.loads(line)
            except ValueError:
                continue  # damaged on the disk; a resumed training warns about it
            if isinstance(point, dict):
                yield point
