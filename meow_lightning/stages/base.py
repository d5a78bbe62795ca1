"""What a stage is given, and how it says what it does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meow_lightning.config.runtime import Runtime
from meow_lightning.distributed import rank
from meow_lightning.resources.throughput import Pace
from meow_lightning.stages.common.shards import Parts
from meow_lightning.store.durable import checked_line, checked_lines, drop_partial_last_line, write_json


@dataclass
class StageContext:
    """One stage's task.

    Attributes:
        stage: Stage name.
        label: Whose result it is within the cell.
        folder: Where to write; it may hold what a killed predecessor left.
        settings: The keyed settings of the artifact.
        inputs: How to get at rows, and whether they are private; not keyed.
        needs: Folders of the results it is made from.
        runtime: How to compute.
    """

    stage: str
    label: str
    folder: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needs: Mapping[str, Path]
    runtime: Runtime
    _said: float = field(default=0.0, init=False)
    _pace: Pace = field(default_factory=Pace, init=False, compare=False)

    @property
    def private(self) -> bool:
        """Whether what is written may hold texts of a dataset that is not public."""
        return bool(self.inputs.get("private"))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Note how far the stage is and, once known, its units per second; written at most a few times a second."""
        now = time.time()
        self._pace.add(now, done)
        if rank() == 0 and (now - self._said > 0.25 or done >= total):
            self._said = now
            state = {"done": done, "total": total, "unit": unit, "time": now, "rate": self._pace.rate()}
            write_json(self.folder / "progress.json", state)

    def log(self, point: Mapping[str, float]) -> None:
        """Append one point (``step`` and values) to the stage's ``metrics.jsonl``."""
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")

    def note(self, text: str) -> None:
        """Say something about the making that whoever runs the program should read."""
        self._tell({"note": text})

    def tally(self, row: int, **counts: int) -> None:
        """Count something about the making of a row; a row that a killed run had made too counts once."""
        self._tell({"row": row, "tally": counts})

    def _tell(self, what: Mapping[str, Any]) -> None:
        path = self.folder / f"told-{rank()}.jsonl"
        drop_partial_last_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(checked_line(what))

    def told(self) -> dict[str, Any]:
        """What was noted (each text once) and counted so far, by all processes, for the manifest."""
        read = [checked_lines(path) for path in sorted(self.folder.glob("told-*.jsonl"))]
        lines = [line for each in read for line in each.rows]
        rows = {line["row"]: line["tally"] for line in lines if "tally" in line}
        tally: Counter[str] = sum(map(Counter, rows.values()), Counter())  # leaves out what was counted nowhere
        notes = list(dict.fromkeys(line["note"] for line in lines if "note" in line))
        lost = sum(each.damaged for each in read)
        notes += [f"{lost} notes or counts of the making were damaged on the disk and are lost"] * bool(lost)
        return ({"notes": notes} if notes else {}) | ({"tally": dict(tally)} if tally else {})

    def parts(self, *, index: str) -> Parts:
        """The rows that are finished so far; says so where some were damaged, which are then made anew.

        Args:
            index: Key in each row that numbers it.
        """
        found = Parts(self.folder, index=index)
        if found.damaged:
            self.note(f"{found.damaged} finished rows were damaged on the disk and were made anew")
        return found

    def to_spec(self) -> dict[str, Any]:
        """The task as plain JSON values, for another process."""
        return {
            "stage": self.stage, "label": self.label, "folder": str(self.folder), "settings": dict(self.settings),
            "inputs": dict(self.inputs), "needs": {name: str(path) for name, path in self.needs.items()},
            "runtime": asdict(self.runtime),
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> StageContext:
        """The task that :meth:`to_spec` wrote."""
        return cls(
            stage=spec["stage"], label=spec["label"], folder=Path(spec["folder"]), settings=spec["settings"],
            inputs=spec["inputs"], needs={name: Path(path) for name, path in spec["needs"].items()},
            runtime=Runtime(**spec["runtime"]),
        )  # fmt: skip


def manifest_notes(manifest: Mapping[str, Any]) -> list[str]:
    """What the maker of a result noted, and how many windows were asked again, in words."""
    tally = manifest.get("tally", {})
    close = f"{tally.get('alone')} of {tally.get('windows')} windows were close calls between two tokens, asked again"
    return [*manifest.get("notes", ()), *([f"{close} alone"] if tally.get("alone") else [])]


def mixed_versions(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """A sentence where results that are used together were made by different versions of a library, by library."""
    used: dict[str, dict[str, list[str]]] = {}
    for manifest in manifests:
        made_by = {"python": manifest.get("python"), **(manifest.get("packages") or {})}
        for name, version in made_by.items():
            if version is not None:
                whose = used.setdefault(name, {}).setdefault(version, [])
                whose.append(f"{manifest['stage']} {manifest['label']}".strip())
    found = [
        f"{name} {' and '.join(f'{version} ({_few(whose)})' for version, whose in versions.items())}"
        for name, versions in used.items()
        if len(versions) > 1
    ]
    mixed = "Results of different library versions were used together"
    return [f"{mixed}: {'; '.join(found)}; cache=refresh makes them all anew."] if found else []


def _few(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return ", ".join(distinct[:2]) + (f" and {len(distinct) - 2} more" if len(distinct) > 2 else "")
