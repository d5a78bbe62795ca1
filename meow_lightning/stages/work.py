"""What a stage is given, and how it says what it does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meow_lightning.pace import Pace
from meow_lightning.parallel import rank
from meow_lightning.store import write_json


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
        inputs: How to get at rows; not keyed.
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
            file.write(json.dumps(what, ensure_ascii=False) + "\n")

    def told(self) -> dict[str, Any]:
        """What was noted (each text once) and counted so far, by all processes, for the manifest."""
        lines = [line for path in sorted(self.folder.glob("told-*.jsonl")) for line in read_lines(path)]
        rows = {line["row"]: line["tally"] for line in lines if "tally" in line}
        tally: Counter[str] = sum(map(Counter, rows.values()), Counter())  # leaves out what was counted nowhere
        notes = list(dict.fromkeys(line["note"] for line in lines if "note" in line))
        return ({"notes": notes} if notes else {}) | ({"tally": dict(tally)} if tally else {})

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


def mend(path: Path) -> None:
    """Take away a last line that a kill cut off, so that the next one starts a line."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, 2)
            cut_off = file.read() != b"\n"
        if cut_off:
            whole = path.read_bytes()
            path.write_bytes(whole[: whole.rfind(b"\n") + 1])


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    side = path.with_name(path.name + ".tmp")
    with side.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    side.replace(path)


class Parts:
    """Rows finished so far, appended by each process to its own file, found again after a kill.

    Args:
        folder: The stage's folder.
        index: Key in each row that numbers it.
    """

    def __init__(self, folder: Path, *, index: str) -> None:
        self.folder, self.index = folder, index
        mend(self._path)
        self.done: dict[int, dict[str, Any]] = {}
        for path in sorted(folder.glob("part-*.jsonl")):
            self.done |= {row[index]: row for row in read_lines(path)}

    @property
    def _path(self) -> Path:
        return self.folder / f"part-{rank()}.jsonl"

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append finished rows."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(lines)

    def merge(self, path: Path) -> list[dict[str, Any]]:
        """All rows of all processes in order of their index, written to ``path`` without it; the parts are removed."""
        rows = {row[self.index]: row for part in sorted(self.folder.glob("part-*.jsonl")) for row in read_lines(part)}
        ordered = [{key: value for key, value in rows[i].items() if key != self.index} for i in sorted(rows)]
        write_lines(path, ordered)
        for part in self.folder.glob("part-*.jsonl"):
            part.unlink()
        return ordered
