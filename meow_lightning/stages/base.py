"""The interface of a stage, and the context that it runs in, which records progress, warnings and counts."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from meow_lightning.config.instantiate import component_class
from meow_lightning.config.runtime import Runtime
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.distributed import rank
from meow_lightning.errors import shorten_list
from meow_lightning.resources.requirements import Planner, Requirements, Work
from meow_lightning.resources.throughput import Throughput
from meow_lightning.stages.common.shards import PARTS, Parts
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.durable import checked_line, checked_lines, drop_partial_last_line, write_json
from meow_lightning.tracking.curve import append_point
from meow_lightning.types import Segments


@dataclass
class StageContext:
    """The context of one stage: its settings, its folders and how to compute.

    Attributes:
        stage: Stage name.
        label: Role of the result within the run.
        folder: Output folder; it may hold partial work of a killed predecessor.
        settings: The settings that are part of the artifact's key.
        inputs: How to load rows, and whether they are private; not part of the key.
        needs: Folders of the results that it reads, by name.
        runtime: How to compute.
    """

    stage: str
    label: str
    folder: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    needs: Mapping[str, Path]
    runtime: Runtime
    _last_progress: float = field(default=0.0, init=False)
    _pace: Throughput = field(default_factory=Throughput, init=False, compare=False)

    @property
    def private(self) -> bool:
        """Whether outputs may contain texts of a dataset that is not public."""
        return bool(self.inputs.get("private"))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Record progress and, once known, units per second; written at most a few times a second."""
        now = time.time()
        self._pace.add(now, done)
        if rank() == 0 and (now - self._last_progress > 0.25 or done >= total):
            self._last_progress = now
            state = {"done": done, "total": total, "unit": unit, "time": now, "rate": self._pace.rate()}
            write_json(self.folder / "progress.json", state)

    def log(self, point: Mapping[str, float]) -> None:
        """Append one point (``step`` and values) to the curve of the stage."""
        append_point(self.folder, point)

    def warn(self, text: str) -> None:
        """Record a message for the user in the manifest."""
        self._append({"note": text})

    def report_counts(self, row: int, **counts: int) -> None:
        """Record counts about the computation of a row; a row that a killed run already recorded counts once."""
        self._append({"row": row, "counts": counts})

    def _append(self, entry: Mapping[str, Any]) -> None:
        path = self.folder / f"notes-{rank()}.jsonl"
        drop_partial_last_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(checked_line(entry))

    def manifest_entries(self) -> dict[str, Any]:
        """Return the warnings (each text once) and the counts of all processes, for the manifest."""
        read = [checked_lines(path) for path in sorted(self.folder.glob("notes-*.jsonl"))]
        lines = [line for each in read for line in each.rows]
        rows = {line["row"]: line["counts"] for line in lines if "counts" in line}
        counts: Counter[str] = sum(map(Counter, rows.values()), Counter())  # drops counts of zero
        notes = list(dict.fromkeys(line["note"] for line in lines if "note" in line))
        lost = sum(each.damaged for each in read)
        notes += [f"{lost} warnings or counts were damaged on the disk and are lost"] * bool(lost)
        return ({"notes": notes} if notes else {}) | ({"counts": dict(counts)} if counts else {})

    def parts(self, *, index: str, name: str = PARTS) -> Parts:
        """Load the rows finished so far, and warn about damaged ones, which are computed again.

        Args:
            index: Key in each row that identifies it.
            name: Beginning of the names of the files.
        """
        parts = Parts(self.folder, index=index, name=name)
        if parts.damaged:
            self.warn(f"{parts.damaged} finished rows were damaged on the disk and were computed again")
        return parts

    def to_spec(self) -> dict[str, Any]:
        """Convert the context to plain JSON values, for another process."""
        return {
            "stage": self.stage, "label": self.label, "folder": str(self.folder), "settings": dict(self.settings),
            "inputs": dict(self.inputs), "needs": {name: str(path) for name, path in self.needs.items()},
            "runtime": asdict(self.runtime),
        }  # fmt: skip

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> StageContext:
        """Rebuild the context that :meth:`to_spec` wrote."""
        return cls(
            stage=spec["stage"], label=spec["label"], folder=Path(spec["folder"]), settings=spec["settings"],
            inputs=spec["inputs"], needs={name: Path(path) for name, path in spec["needs"].items()},
            runtime=Runtime(**spec["runtime"]),
        )  # fmt: skip


class UsedMetrics(NamedTuple):
    """The metrics that a result contains, whose versions are part of its key.

    Attributes:
        sets: Names of the evaluation sets.
        settings: Settings of the evaluation.
        only: The metrics, by name; ``None`` for all of them.
    """

    sets: Collection[str]
    settings: Mapping[str, Any]
    only: Collection[str] | None


class Stage(ABC):
    """A step of a run that turns stored results into another one; one subclass in each file of this folder.

    Attributes:
        name: The name of the stage and of its file.
        version: Raised when all of its results would change. A change to a single method, writer, measure or metric
            raises only the version of that component.
        after: The stages whose results it may need within a round; the order of the goals follows from it.
        outputs: The files that every complete result contains.
        oom_hint: What helps if it runs out of GPU memory.
        component: The setting that names its component by ``_target_``; ``None`` for a stage without one.
        splits: Whether its work is split over the processes of a job.
        selected_with: Other goals that select its results too.
        repeats: Whether its goal includes the results of later rounds, which need results of later stages.
        absent: The error if its goal selects nothing; empty for the list of the stages that the run has.
        quotes: Whether its results quote questions or answers of the dataset, so that ``meow-lightning purge`` removes
            them; a stage whose results are numbers or a model sets it to false.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    after: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]
    oom_hint: ClassVar[str] = "a single prompt did not fit: use a GPU with more memory, or set trainer=cpu"
    component: ClassVar[str | None] = None
    splits: ClassVar[bool] = False
    selected_with: ClassVar[tuple[str, ...]] = ()
    repeats: ClassVar[bool] = False
    absent: ClassVar[str] = ""
    quotes: ClassVar[bool] = True

    def distributed(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the work on an artifact is split over the processes of a job.

        Args:
            inputs: The runtime inputs of the artifact.
        """
        return self.splits

    def components(self, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[type]:
        """List the classes of the method, writer or measure that compute a result.

        Args:
            settings: The settings of the artifact.
            allow: Further packages whose classes the settings may name (``trusted_packages``).
        """
        if self.component is None or self.component not in settings:
            return []
        return [component_class(settings[self.component], allow=allow)]

    def metrics(self, settings: Mapping[str, Any], needs: Mapping[str, Artifact]) -> UsedMetrics | None:
        """Determine the metrics that a result contains; ``None`` for a stage without metrics.

        Args:
            settings: The settings of the artifact.
            needs: The artifacts that it is computed from, by name.
        """
        return None

    def check(self, artifact: Artifact, *, gpu: bool) -> None:  # noqa: B027 - most stages have nothing to check
        """Check that what an artifact needs besides models can be used, before any stage of the run starts.

        Args:
            artifact: An artifact that is not in the store.
            gpu: Whether stages compute on a GPU.

        Raises:
            UserError: It cannot be used.
        """

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the prompts and targets that the model of an artifact has to read, to find invalid ones early.

        Args:
            artifact: The artifact.
            dataset: The dataset of the run.
            streams: The builders of the streams that the run's method trains on.
        """
        yield from ()

    def describe_work(self, artifact: Artifact, planner: Planner) -> Work | None:
        """Describe the work on an artifact; ``None`` for a stage that runs no model and takes seconds.

        Args:
            artifact: The artifact.
            planner: The run, and estimates that all stages share.
        """
        return None

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of a result, besides a model and the manifest.

        Args:
            artifact: The artifact.
            planner: The run, and estimates that all stages share.
        """
        return 0

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Estimate the memory, disk and operations that an artifact requires.

        Args:
            artifact: The artifact.
            planner: The run, and estimates that all stages share.
        """
        return planner.estimate(artifact, self.describe_work(artifact, planner), disk=self.disk(artifact, planner))

    @abstractmethod
    def run(self, work: StageContext) -> None:
        """Compute the result and write it to ``work.folder``.

        Raises:
            UserError: The result cannot be computed as configured.
        """


def manifest_notes(manifest: Mapping[str, Any]) -> list[str]:
    """List a manifest's warnings, including the number of windows that were recomputed with batch size 1."""
    counts = manifest.get("counts", {})
    near_ties = (
        f"{counts.get('alone')} of {counts.get('windows')} windows held near-ties in the argmax, recomputed with batch "
        "size 1"
    )
    return [*manifest.get("notes", ()), *([near_ties] if counts.get("alone") else [])]


def mixed_versions(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """Describe results that are used together but were computed with different versions of a library."""
    used: dict[str, dict[str, list[str]]] = {}
    for manifest in manifests:
        made_by = {"python": manifest.get("python"), **(manifest.get("packages") or {})}
        for name, version in made_by.items():
            if version is not None:
                results = used.setdefault(name, {}).setdefault(version, [])
                results.append(f"{manifest['stage']} {manifest['label']}".strip())
    mixed = [
        f"{name} {' and '.join(f'{version} ({shorten_list(results)})' for version, results in versions.items())}"
        for name, versions in used.items()
        if len(versions) > 1
    ]
    return [
        f"Results of different library versions were used together: {'; '.join(mixed)}; cache=refresh computes all of "
        "them again."
    ] * bool(mixed)
