"""The preflight of a run: checks of its models, memory and disk space, and time estimates, without loading weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from meow_lightning.config.schema import RunConfig
from meow_lightning.config.training_options import Trainer
from meow_lightning.data.examples import Dataset
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.errors import UserError
from meow_lightning.pipeline.graph import RunGraph
from meow_lightning.pipeline.versions import made_by_other_code
from meow_lightning.planning.ability import check_abilities
from meow_lightning.planning.model_checks import ModelChecks
from meow_lightning.planning.model_inputs import explained_need, fetch
from meow_lightning.planning.pending_requests import PendingRequests, pending_requests
from meow_lightning.planning.requirements import Planner
from meow_lightning.resources import cost
from meow_lightning.resources.format import format_bytes
from meow_lightning.resources.hardware import Gpu, free_disk, free_memory, gpus
from meow_lightning.resources.requirements import NOTHING, Requirements
from meow_lightning.resources.training_memory import Memory
from meow_lightning.stages import stage
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store

# Manifest entries that time estimates need; manifests of earlier versions lack some and are ignored.
MEASURED = {"label", "settings", "seconds", "devices", "flops", "parameters", "items", "kind", "threads"}


class Known:
    """A cache shared by all runs with the same trainer and store: the hardware and earlier results.

    Args:
        trainer: The options of ``trainer``.
        store: The store of results.
    """

    def __init__(self, *, trainer: Trainer, store: Store) -> None:
        self.trainer, self.store = trainer, store
        self.outlooks: dict[str, Requirements] = {}
        self.times: dict[str, tuple[float | None, cost.Source]] = {}
        self.examined: set[str] = set()
        self.other_code: dict[str, bool] = {}
        self._manifests: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def gpus(self) -> list[Gpu]:
        """The GPUs that stages may use."""
        return [] if self.trainer.accelerator == "cpu" else gpus()

    @cached_property
    def available_memory(self) -> int:
        """Free bytes for a stage: the least of the GPUs that it uses, else those of this machine."""
        return min((gpu.free for gpu in self.gpus[: self.trainer.devices]), default=0) or free_memory()

    @property
    def kind(self) -> str:
        """The device that stages compute on: ``cpu``, the GPU's name, or ``gpu`` if it is not visible here."""
        return self.gpus[0].name if self.gpus else "gpu" if self.trainer.accelerator == "gpu" else "cpu"

    def measured(self, stage: str, *, devices: int) -> list[cost.MeasuredStage]:
        """Collect the measured times of a stage's results on the same number of devices of this kind.

        Args:
            stage: Name of the stage.
            devices: Number of devices; 0 for a stage that computes on the CPU whatever the trainer.
        """
        return [
            cost.MeasuredStage.of(each)
            for each in self._manifests_of(stage)
            if not devices or (each["devices"] == devices and self._comparable(each["kind"], each["threads"]))
        ]

    def measured_memory(self, stage: str, *, devices: int) -> list[cost.MeasuredMemory]:
        """Collect the measured peak memory of a stage's results on the same number of devices of this kind.

        Args:
            stage: Name of the stage.
            devices: Number of devices.
        """
        found = [
            cost.MeasuredMemory.of(each, gpu=self.kind != "cpu")
            for each in self._manifests_of(stage)
            if each["devices"] == devices and self._comparable(each["kind"], each["threads"])
        ]
        return [each for each in found if each is not None]

    def _manifests_of(self, stage: str) -> list[dict[str, Any]]:
        return self._manifests.get(stage) or self._manifests.setdefault(stage, list(self._read(stage)))

    def _comparable(self, kind: str, threads: int) -> bool:
        if self.kind == "gpu":  # no GPU is visible while planning, so results of any GPU count
            return kind != "cpu"
        return kind == self.kind and (kind != "cpu" or threads == self.trainer.threads)

    def _read(self, stage: str) -> Iterator[dict[str, Any]]:
        for path in (self.store.root / stage).glob("*/manifest.json"):
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
                if manifest.keys() >= MEASURED:
                    yield manifest
            except (OSError, ValueError, AttributeError):
                continue  # ignore damaged results


class Preflight:
    """The preflight of one run.

    Args:
        config: The options of the run.
        dataset: Its dataset.
        streams: The builders of the streams that its method trains on.
        known: The cache shared with other runs.
    """

    def __init__(
        self, config: RunConfig, *, dataset: Dataset, streams: Mapping[str, StreamBuilder], known: Known
    ) -> None:
        self.config, self.dataset, self.streams, self.known = config, dataset, streams, known
        self.trainer, self.store = config.trainer, known.store
        self.notes: list[str] = []  # about the checked models, shown to the user

    def fetch(self, artifacts: Sequence[Artifact]) -> None:
        """Fetch provided models and check that they, the writer and the optimizer are usable.

        Args:
            artifacts: The artifacts of the run's goal.

        Raises:
            UserError: One is not available or not usable.
        """
        gpu = self.trainer.accelerator != "cpu" and (self._some_gpu or not self.config.preflight)
        missing = [artifact for artifact in artifacts if self.store.find(artifact) is None]
        for artifact in missing:
            stage(artifact.stage).check(artifact, gpu=gpu)
        for artifact in missing:
            if "given" in artifact.settings:
                with explained_need(artifact, artifacts, inversion=self.config.inversion.name):
                    fetch(artifact, only_available=self.config.plan)
        checks = ModelChecks(self.config, dataset=self.dataset, streams=self.streams, store=self.store, gpu=gpu)
        self.notes = checks.notes(artifacts, examined=self.known.examined)
        self.notes += check_abilities(artifacts, self.store)

    def check(self, artifacts: Sequence[Artifact]) -> None:
        """Check that the missing artifacts fit into memory and on disk.

        Args:
            artifacts: The artifacts of the run's goal.

        Raises:
            UserError: One does not fit; the message suggests settings that would.
        """
        missing = [(artifact, self.outlook(artifact)) for artifact in artifacts if self.store.find(artifact) is None]
        if any(outlook.memory is not None for _, outlook in missing):
            self._check_device()
        for artifact, outlook in missing:
            if outlook.memory is not None and outlook.memory.total > self.available_memory:
                raise UserError(self._too_large(artifact, outlook.memory))
            if outlook.memory is not None and outlook.memory.host > free_memory():
                paged = "recipe" in artifact.settings
                purpose = "optimizer states (optim.optimizer=paged)" if paged else "the weights of a GGUF file"
                raise UserError(
                    f"{artifact.stage} {artifact.label} requires {format_bytes(outlook.memory.host)} of main memory "
                    f"for {purpose}, but only {format_bytes(free_memory())} is free: "
                    f"set {'optim=adamw8bit, or ' * paged}preflight=false to start anyway"
                )
        largest = sorted((o.memory.total for _, o in missing if o.memory is not None), reverse=True)
        together = sum(largest[: self.trainer.parallel_stages])
        if self.known.gpus == [] and together > self.available_memory:
            raise UserError(
                f"trainer.parallel_stages={self.trainer.parallel_stages} concurrent stages require about "
                f"{format_bytes(together)} of memory, but only {format_bytes(self.available_memory)} is free: set "
                "trainer.parallel_stages=1, or preflight=false to start anyway"
            )
        need, free = self.disk([outlook for _, outlook in missing]), free_disk(self.store.root)
        if need > free:
            raise UserError(
                f"the results require about {format_bytes(need)} on the disk of {self.store.root}, but only "
                f"{format_bytes(free)} is free: choose another disk with store=FOLDER, or set preflight=false to start "
                "anyway"
            )

    def requests(self, artifacts: Sequence[Artifact]) -> list[PendingRequests]:
        """Estimate the requests to language models that write texts, of the results that are not stored."""
        missing = [each for each in artifacts if self.store.find(each) is None]
        return pending_requests(self.config, self.dataset, missing)

    def disk(self, outlooks: Sequence[Requirements]) -> int:
        """Estimate the peak of bytes on disk while artifacts with these requirements are computed."""
        passing = sorted((outlook.passing for outlook in outlooks), reverse=True)
        return sum(outlook.disk for outlook in outlooks) + sum(passing[: self.trainer.parallel_stages])

    @property
    def _some_gpu(self) -> bool:
        return bool(self.known.gpus) or (self.trainer.accelerator != "cpu" and Path("/dev/kfd").exists())

    @property
    def available_memory(self) -> int:
        """Free bytes for a stage."""
        return self.known.available_memory

    @property
    def on_gpu(self) -> bool:
        """Whether stages that run a model use a GPU."""
        return bool(self.known.gpus) or self.trainer.accelerator == "gpu"

    def devices(self, artifact: Artifact) -> int:
        """Determine the number of devices of an artifact; 0 if it computes on the CPU whatever the trainer."""
        computed = stage(artifact.stage).distributed(artifact.inputs) and "given" not in artifact.settings
        return self.trainer.devices if computed else 0

    @cached_property
    def planner(self) -> Planner:
        """The estimates of this run's stages."""
        gpu = bool(self.known.gpus)
        return Planner(
            self.config.plain(), dataset=self.dataset, streams=self.streams, gpu=gpu, available=self.available_memory
        )

    def _check_device(self) -> None:
        if self.trainer.accelerator == "gpu" and not self._some_gpu:
            raise UserError(
                f"trainer={self.trainer.name} requires a GPU, but none is visible: set trainer=cpu, or "
                "preflight=false if a GPU exists but was not detected"
            )

    def outlook(self, artifact: Artifact) -> Requirements:
        """Return the requirements of an artifact, computed once, before any stage runs; zero for a cached one."""
        known = self.known.outlooks.get(artifact.key)
        return known or self.known.outlooks.setdefault(artifact.key, self._outlook(artifact))

    def _outlook(self, artifact: Artifact) -> Requirements:
        return NOTHING if self.store.find(artifact) is not None else self.planner.size(artifact)

    def made_by_other_code(self, artifact: Artifact) -> bool:
        """Whether a stored result was computed by code that differs from the current code; cached, for plans."""
        known = self.known.other_code
        if artifact.key not in known:
            manifest = self.store.find(artifact)
            known[artifact.key] = manifest is not None and made_by_other_code(artifact, manifest, self.store)
        return known[artifact.key]

    def time(self, artifact: Artifact) -> tuple[float | None, cost.Source]:
        """Estimate the seconds to compute an artifact, and name the source of the estimate.

        See :func:`meow_lightning.resources.cost.expected_seconds`. It reads the manifest of every result of the stage,
        which is slow in a store of thousands, so only plans call it.

        Returns:
            The seconds and their source; ``None`` and an empty source if no similar result exists.
        """
        known = self.known.times.get(artifact.key)
        return known or self.known.times.setdefault(artifact.key, self._time(artifact))

    def _time(self, artifact: Artifact) -> tuple[float | None, cost.Source]:
        manifest = self.store.find(artifact)
        if manifest is not None:
            return manifest["seconds"], "took"
        outlook = self.outlook(artifact)
        amount = cost.Workload(flops=outlook.flops, parameters=outlook.parameters, items=outlook.items)
        devices = self.trainer.devices if outlook.flops else 0
        known = self.known.measured(artifact.stage, devices=devices)
        return cost.expected_seconds(amount, key=cost.duration_key(artifact.label, artifact.settings), known=known)

    def memory(self, artifact: Artifact) -> tuple[int, cost.MemorySource] | None:
        """Estimate the peak bytes of memory of an artifact; ``None`` if negligible. Like :meth:`time`, for plans only.

        See :func:`meow_lightning.resources.cost.expected_memory`.
        """
        outlook = self.outlook(artifact)
        if outlook.memory is None:
            return None
        known = self.known.measured_memory(artifact.stage, devices=self.trainer.devices)
        return cost.expected_memory(outlook.memory.total, parameters=outlook.parameters, known=known)

    def manifest_extras(self, artifact: Artifact) -> dict[str, Any]:
        """Return the manifest entries that describe the work and the hardware, for later estimates."""
        outlook = self.outlook(artifact)
        return {
            "flops": outlook.flops, "parameters": outlook.parameters, "items": outlook.items,
            "memory": 0 if outlook.memory is None else outlook.memory.total,
            "kind": self.known.kind, "threads": self.trainer.threads,
        }  # fmt: skip

    def _too_large(self, artifact: Artifact, memory: Memory) -> str:
        name = f"{artifact.stage} {artifact.label}".strip()
        parts = ", ".join(
            f"{part} {format_bytes(getattr(memory, part))}"
            for part in ("weights", "gradients", "optimizer", "activations", "logits", "cache")
            if getattr(memory, part) > memory.total / 50
        )
        where = f"the GPU ({self.known.gpus[0].name})" if self.known.gpus else "this machine"
        fits = " or ".join(f"{words} ({format_bytes(total)})" for words, total in self.planner.fitting(artifact)[:4])
        hint = f"settings that fit: {fits}" if fits else "no setting makes it fit: use a smaller model"
        return (
            f"{name} requires about {format_bytes(memory.total)} of memory ({parts}), but {where} has "
            f"{format_bytes(self.available_memory)} free; {hint}; set preflight=false to start anyway"
        )


class PreflightChecks:
    """The preflights of many runs, which share caches and fetch each provided model once."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._fetched: set[str] = set()

    def of(self, config: RunConfig, run: RunGraph, store: Store) -> Preflight:
        """Build the preflight of a run.

        Args:
            config: Its options.
            run: Its graph of artifacts.
            store: The store of its results.
        """
        key = json.dumps([str(store.root), store.cache, config.trainer.plain()])
        known = self._known.setdefault(key, Known(trainer=config.trainer, store=store))
        return Preflight(config, dataset=run.dataset, streams=run.streams, known=known)

    def fetch(self, preflight: Preflight, artifacts: Sequence[Artifact]) -> None:
        """Call :meth:`Preflight.fetch` for the artifacts that no earlier run has fetched."""
        preflight.fetch([each for each in artifacts if each.key not in self._fetched])
        self._fetched |= {each.key for each in artifacts}
