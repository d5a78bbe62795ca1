"""What a stage is given, and how it says what it does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meow_lightning.durable import checked_line, checked_lines, mend, replace, write_json
from meow_lightning.pace import Pace
from meow_lightning.parallel import rank


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How a stage is computed; nothing in here may change a result.

    Attributes:
        accelerator: ``cpu``, ``gpu`` or ``auto``.
        devices: Processes of this stage, one device each.
        nodes: Machines that they are spread over evenly.
        strategy: How several train together: ``ddp``, each with all weights, or ``fsdp``, each with a share.
        micro_batch: Rows per forward and backward pass in training, per stream.
        micro_tokens: Padded tokens per such pass and stream in the place of rows; ``None`` to count rows.
        checkpointing: Whether training recomputes activations in the backward pass to save memory.
        eval_batch: Rows per forward pass when scoring.
        slots: Prompts generated side by side; ``None`` for as many as memory allows.
        checkpoint_seconds: Time between two training checkpoints.
        log_every: Steps between two points of a training curve.
        memo_every_epochs: Epochs between two MEMO points of a training curve; 0 for none.
        memo_every_steps: Steps between two of them, in the place of epochs; 0 to count epochs.
        memo_facts: Facts in each of these points.
        evaluate_every_epochs: Epochs between two evaluations of the model in training; 0 for none.
    """

    accelerator: str
    devices: int
    nodes: int
    strategy: str
    micro_batch: int
    micro_tokens: int | None
    checkpointing: bool
    eval_batch: int
    slots: int | None
    checkpoint_seconds: float
    log_every: int
    memo_every_epochs: int
    memo_every_steps: int
    memo_facts: int
    evaluate_every_epochs: int


@dataclass
class Work:
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
        mend(path)
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
    def from_spec(cls, spec: Mapping[str, Any]) -> Work:
        """The task that :meth:`to_spec` wrote."""
        return cls(
            stage=spec["stage"], label=spec["label"], folder=Path(spec["folder"]), settings=spec["settings"],
            inputs=spec["inputs"], needs={name: Path(path) for name, path in spec["needs"].items()},
            runtime=Runtime(**spec["runtime"]),
        )  # fmt: skip


def remarks(manifest: Mapping[str, Any]) -> list[str]:
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


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file; a last line cut off by a kill is left out. Nothing when there is no file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)


def read_json(path: Path) -> Any:
    """The JSON value in a file that a stage has written."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    side = path.with_name(path.name + ".tmp")
    with side.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    replace(side, path)


class Parts:
    """Rows finished so far, appended by each process to its own file, found again after a kill or a power loss.

    Args:
        folder: The stage's folder.
        index: Key in each row that numbers it.

    Attributes:
        done: The whole rows by their number.
        damaged: How many lines are not what was written.
    """

    def __init__(self, folder: Path, *, index: str) -> None:
        self.folder, self.index = folder, index
        mend(self._path)
        self.done, self.damaged = self._read()

    @property
    def _path(self) -> Path:
        return self.folder / f"part-{rank()}.jsonl"

    def _read(self) -> tuple[dict[int, dict[str, Any]], int]:
        read = [checked_lines(path) for path in sorted(self.folder.glob("part-*.jsonl"))]
        rows = {row[self.index]: row for each in read for row in each.rows}
        return rows, sum(each.damaged for each in read)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append finished rows."""
        lines = "".join(map(checked_line, rows))
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)

    def merge(self, path: Path) -> list[dict[str, Any]]:
        """All rows of all processes in order of their index, written to ``path`` without it.

        The parts stay until the result is sealed: a run that is killed before has lost nothing.
        """
        rows, _ = self._read()
        ordered = [{key: value for key, value in rows[i].items() if key != self.index} for i in sorted(rows)]
        write_lines(path, ordered)
        return ordered
