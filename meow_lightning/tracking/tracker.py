"""Carries a cell's curves and numbers from the store to where people look: a CSV file, nowhere, or W&B (``wandb_run``).

Stages write ``metrics.jsonl``; one tracker in the driver follows the files while they grow and replays those found in
the store, so no two processes own one run and a curve is whole whoever made it.
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


class Told:
    """Which results of a cell a logger has been told of, kept in a file between runs.

    Args:
        path: The file.
        private: Whether it is for its owner's eyes alone.

    Attributes:
        keys: The keys of these results.
        damaged: Whether the file cannot be read; then nothing is known, and all is sent again.
    """

    def __init__(self, path: Path, *, private: bool) -> None:
        self._path, self._private = path, private
        self.keys: set[str] = set()
        self.damaged = False
        try:
            found = json.loads(path.read_bytes())
            self.damaged = not isinstance(found, list) or not all(isinstance(key, str) for key in found)
            self.keys = set() if self.damaged else set(found)
        except FileNotFoundError:
            return
        except ValueError:  # also of bytes that are no UTF-8
            self.damaged = True

    def add(self, keys: Collection[str]) -> None:
        """Remember that these were told too."""
        self.keys |= set(keys)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with owner_only(self._private):
            write_json(self._path, sorted(self.keys))


class Tracker:
    """Follows the stages of one cell and feeds a sink.

    Args:
        sink: Where points go.
        told: Keys of results whose curves the sink already has, from an earlier run of the cell.
    """

    def __init__(self, *, sink: MetricSink, told: Collection[str]) -> None:
        self.sink, self._told = sink, told
        self.finished_keys: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}
        self._passed: set[tuple[object, ...]] = set()

    def running(self, artifacts: Mapping[str, tuple[Artifact, Path]]) -> None:
        """Pass on what running stages have newly written."""
        for artifact, folder in artifacts.values():
            self._follow(artifact, folder)

    def finished(self, artifact: Artifact, manifest: Mapping[str, Any], folder: Path, *, made: bool) -> None:
        """Pass on the rest of a stage's curve, all of it when the stage was found."""
        self._follow(artifact, folder)
        self.finished_keys.add(artifact.key)

    def waiting(self, artifact: Artifact, owner: str) -> None:
        """Nothing: the maker's curve is replayed when it is there."""

    def notice(self, text: str) -> None:
        """Nothing: it is for people."""

    def _follow(self, artifact: Artifact, folder: Path) -> None:
        if artifact.key in self._told:
            return
        for point in self._new(artifact.key, folder / "metrics.jsonl"):
            mark = (artifact.key, point.get("step"), *sorted(point))
            if mark not in self._passed:
                self._passed.add(mark)
                self.sink.point(f"{artifact.stage} {artifact.label}".strip(), point)

    def _new(self, key: str, path: Path) -> Iterator[dict[str, Any]]:
        try:
            with path.open("rb") as file:
                number = os.fstat(file.fileno()).st_ino
                known, offset = self._places.get(key, (number, 0))
                if known != number:
                    offset = 0  # a resumed training wrote its curve anew, up to its checkpoint
                file.seek(offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._places[key] = (number, offset + len(whole))
        for line in whole.split(b"\n"):
            try:
                point = json.loads(line)
            except ValueError:
                continue  # damaged on the disk, which the training itself tells
            if isinstance(point, dict):
                yield point
