"""Before any weight is loaded: are the models there, does it fit into memory and disk, how long will it take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.errors import UserError
from meow_lightning.models.checkpoint import check
from meow_lightning.models.sources import config_of, locate, parse
from meow_lightning.pipeline.graph import Graph
from meow_lightning.pipeline.nodes.models import dataset_of
from meow_lightning.planning.model_checks import ModelChecks
from meow_lightning.planning.requirements import NOTHING, Requirements, ResourceRequirements
from meow_lightning.resources.cost import Amount, Measured, Source, duration_key, expected_seconds
from meow_lightning.resources.format import format_bytes
from meow_lightning.resources.hardware import Gpu, free_disk, free_memory, gpus
from meow_lightning.resources.training_memory import Memory
from meow_lightning.stages import distributed
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.store import Store
from meow_lightning.training.optimizers import check_optimizer
from meow_lightning.types import Dataset

# What manifests hold that times are taken from; those of earlier versions counted other operations and say nothing.
MEASURED = {"label", "settings", "seconds", "devices", "flops", "parameters", "items", "kind", "threads"}


class Known:
    """What is alike for all runs of one trainer and one store, looked at once: the machine, what was ever made.

    Args:
        trainer: The options of that name.
        store: What is there already.
    """

    def __init__(self, *, trainer: Mapping[str, Any], store: Store) -> None:
        self.trainer, self.store = trainer, store
        self.outlooks: dict[str, Requirements] = {}
        self.times: dict[str, tuple[float | None, Source]] = {}
        self.examined: set[str] = set()
        self._manifests: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def gpus(self) -> list[Gpu]:
        """The GPUs that stages may use."""
        return [] if self.trainer["accelerator"] == "cpu" else gpus()

    @cached_property
    def there(self) -> int:
        """Bytes that a stage may take: of the smallest GPU it would use, else of this machine."""
        return min((gpu.free for gpu in self.gpus[: self.trainer["devices"]]), default=0) or free_memory()

    @property
    def kind(self) -> str:
        """What stages compute on: ``cpu``, or the GPU's name; ``gpu`` where it stands elsewhere."""
        return self.gpus[0].name if self.gpus else "gpu" if self.trainer["accelerator"] == "gpu" else "cpu"

    def measured(self, stage: str, *, devices: int) -> list[Measured]:
        """What making results of a stage took here, on as many devices of this kind.

        Args:
            stage: Its name.
            devices: That compute; 0 where only this machine's own processor is at it, of whatever kind.
        """
        found = self._manifests.get(stage) or self._manifests.setdefault(stage, list(self._read(stage)))
        return [
            Measured(
                way=duration_key(each["label"], each["settings"]), seconds=each["seconds"],
                amount=Amount(flops=each["flops"], parameters=each["parameters"], items=each["items"]),
            )
            for each in found
            if not devices or (each["devices"] == devices and self._alike(each["kind"], each["threads"]))
        ]  # fmt: skip

    def _alike(self, kind: str, threads: int) -> bool:
        if self.kind == "gpu":  # planned where no GPU can be seen: any will do
            return kind != "cpu"
        return kind == self.kind and (kind != "cpu" or threads == self.trainer["threads"])

    def _read(self, stage: str) -> Iterator[dict[str, Any]]:
        for path in (self.store.root / stage).glob("*/manifest.json"):
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
                if manifest.keys() >= MEASURED:
                    yield manifest
            except (OSError, ValueError, AttributeError):
                continue  # a damaged result says nothing about time


class Preflight:
    """What a run will take of this machine.

    Args:
        options: Resolved options of the run.
        dataset: Its facts.
        streams: What its method trains on.
        known: What was looked at already.
    """

    def __init__(self, options: Mapping[str, Any], *, dataset: Dataset, streams: Sequence[str], known: Known) -> None:
        self.options, self.dataset, self.streams, self.known = options, dataset, streams, known
        self.trainer, self.model, self.store = options["trainer"], options["model"], known.store
        self.notes: list[str] = []  # of the models that were looked through, for whoever runs the program

    def fetch(self, artifacts: Sequence[Artifact]) -> None:
        """Nothing; given models used for the first time are here and whole, so are who writes answers and optimizers.

        Raises:
            UserError: One cannot be had, or cannot be used.
        """
        for artifact in artifacts:
            if artifact.stage == "unlearn" and self.store.find(artifact) is None:
                on_gpu = self.trainer["accelerator"] != "cpu" and (self._some_gpu or not self.options["preflight"])
                check_optimizer(artifact.settings["recipe"].get("optimizer", "adamw"), gpu=on_gpu)
        asks = [
            each for each in artifacts if each.stage == "propose" and "scores" not in each.needs
        ]  # later rounds may not ask
        lacking = [each for each in asks if self.store.find(each) is None]
        for artifact in [each for each in lacking if not each.inputs["runs_locally"]][:1]:
            instantiate(artifact.inputs["inversion"], allow=artifact.inputs["allow"]).check()
        for artifact in artifacts:
            if "given" in artifact.settings and self.store.find(artifact) is None:
                places = artifact.inputs["given"]
                weights = parse(places["option"], places["weights"], words=())
                if self.options["plan"] and weights.folder is None:
                    config_of(weights)  # a plan fetches no gigabytes, but says whether they can be had
                    continue
                tokenizer = parse("model.tokenizer", places["tokenizer"], words=())
                here = locate(weights, weights=True, fetch=True), locate(tokenizer, weights=False, fetch=True)
                check(places["option"], *here)
        gpu = self.trainer["accelerator"] != "cpu" and (self._some_gpu or not self.options["preflight"])
        admission = ModelChecks(self.options, dataset=self.dataset, streams=self.streams, store=self.store, gpu=gpu)
        self.notes = admission.notes(artifacts, examined=self.known.examined)

    def check(self, artifacts: Sequence[Artifact]) -> None:
        """Nothing, when what is to be made fits into memory and disk.

        Raises:
            UserError: It does not; with what would fit.
        """
        made = [(artifact, self.outlook(artifact)) for artifact in artifacts if self.store.find(artifact) is None]
        if any(outlook.memory is not None for _, outlook in made):
            self._check_device()
        for artifact, outlook in made:
            if outlook.memory is not None and outlook.memory.total > self.there:
                raise UserError(self._too_large(artifact, outlook.memory))
            if outlook.memory is not None and outlook.memory.host > free_memory():
                raise UserError(
                    f"{artifact.stage} {artifact.label} keeps {format_bytes(outlook.memory.host)} of optimizer states "
                    f"in main memory (optim.optimizer=paged) and this machine has {format_bytes(free_memory())} free; "
                    "say optim=adamw8bit, or preflight=false to try all the same"
                )
        largest = sorted((o.memory.total for _, o in made if o.memory is not None), reverse=True)
        together = sum(largest[: self.trainer["parallel_stages"]])
        if self.known.gpus == [] and together > self.there:
            raise UserError(
                f"trainer.parallel_stages={self.trainer['parallel_stages']} stages at once need about "
                f"{format_bytes(together)} and this machine has {format_bytes(self.there)} free; say "
                "trainer.parallel_stages=1, or preflight=false to try all the same"
            )
        need, free = self.disk([outlook for _, outlook in made]), free_disk(self.store.root)
        if need > free:
            raise UserError(
                f"the results need about {format_bytes(need)} on the disk of {self.store.root} and "
                f"{format_bytes(free)} are free; choose another disk with store=FOLDER, or "
                "preflight=false to try all the same"
            )

    def questions(self, artifacts: Sequence[Artifact]) -> tuple[str, int, int, int] | None:
        """(who, questions at least, at most, tokens of a reply) a language model is asked; ``None`` where none is."""
        lacking = [each for each in artifacts if each.stage == "propose" and self.store.find(each) is None]
        node, facts = self.options["inversion"], len(self.dataset.facts("forget"))
        if not lacking or "prompt" not in node:
            return None
        least = facts * sum("scores" not in each.needs for each in lacking)  # later rounds may ask about fewer, or none
        most = facts * len(lacking) * (node["max_retries_per_fact"] + 1)
        most = min(
            each
            for each in (most, self.options["method"].get("rounds", {}).get("max_requests"), node.get("max_requests"))
            if each
        )
        return node["model"], least, most, node["max_new_tokens"]

    def disk(self, outlooks: Sequence[Requirements]) -> int:
        """Bytes on the disk at most while these are made."""
        passing = sorted((outlook.passing for outlook in outlooks), reverse=True)
        return sum(outlook.disk for outlook in outlooks) + sum(passing[: self.trainer["parallel_stages"]])

    @property
    def _some_gpu(self) -> bool:
        return bool(self.known.gpus) or (self.trainer["accelerator"] != "cpu" and Path("/dev/kfd").exists())

    @property
    def there(self) -> int:
        """Bytes that a stage may take."""
        return self.known.there

    @property
    def on_gpu(self) -> bool:
        """Whether stages that compute do so on a GPU."""
        return bool(self.known.gpus) or self.trainer["accelerator"] == "gpu"

    def devices(self, artifact: Artifact) -> int:
        """On how many devices an artifact is computed; 0 where only this machine's own processor is at it."""
        computed = distributed(artifact.stage, artifact.inputs) and "given" not in artifact.settings
        return self.trainer["devices"] if computed else 0

    @cached_property
    def _sizes(self) -> ResourceRequirements:
        gpu = bool(self.known.gpus)
        return ResourceRequirements(self.options, dataset=self.dataset, streams=self.streams, gpu=gpu, there=self.there)

    def _check_device(self) -> None:
        if self.trainer["accelerator"] == "gpu" and not self._some_gpu:
            raise UserError(
                f"trainer={self.trainer['name']} computes on a GPU and there is none here; say trainer=cpu, or "
                "preflight=false where the look was wrong"
            )

    def outlook(self, artifact: Artifact) -> Requirements:
        """What making an artifact takes, or took; looked at once, before anything is made."""
        known = self.known.outlooks.get(artifact.key)
        return known or self.known.outlooks.setdefault(artifact.key, self._outlook(artifact))

    def _outlook(self, artifact: Artifact) -> Requirements:
        return NOTHING if self.store.find(artifact) is not None else self._sizes.size(artifact)

    def time(self, artifact: Artifact) -> tuple[float | None, Source]:
        """Seconds that computing an artifact takes, and where they come from.

        See :func:`meow_lightning.resources.cost.expected_seconds`.

        ``None`` and empty where nothing alike was ever made. It reads the manifest of every result of the stage, which
        in a store of thousands takes its time: for plans.
        """
        known = self.known.times.get(artifact.key)
        return known or self.known.times.setdefault(artifact.key, self._time(artifact))

    def _time(self, artifact: Artifact) -> tuple[float | None, Source]:
        manifest = self.store.find(artifact)
        if manifest is not None:
            return manifest["seconds"], "took"
        outlook = self.outlook(artifact)
        amount = Amount(flops=outlook.flops, parameters=outlook.parameters, items=outlook.items)
        devices = self.trainer["devices"] if outlook.flops else 0
        known = self.known.measured(artifact.stage, devices=devices)
        return expected_seconds(amount, way=duration_key(artifact.label, artifact.settings), known=known)

    def manifest_extras(self, artifact: Artifact) -> dict[str, Any]:
        """What a manifest keeps of the work that was done and of where, for the plans to come."""
        outlook = self.outlook(artifact)
        return {
            "flops": outlook.flops, "parameters": outlook.parameters, "items": outlook.items,
            "kind": self.known.kind, "threads": self.trainer["threads"],
        }  # fmt: skip

    def _too_large(self, artifact: Artifact, memory: Memory) -> str:
        name = f"{artifact.stage} {artifact.label}".strip()
        parts = ", ".join(
            f"{part} {format_bytes(getattr(memory, part))}"
            for part in ("weights", "gradients", "optimizer", "activations", "logits", "cache")
            if getattr(memory, part) > memory.total / 50
        )
        where = f"the GPU ({self.known.gpus[0].name})" if self.known.gpus else "this machine"
        fits = " or ".join(f"{words} ({format_bytes(total)})" for words, total in self._sizes.fitting(artifact)[:4])
        hint = f"what would fit: {fits}" if fits else "nothing that can be set would make it fit: take a smaller model"
        return (
            f"{name} needs about {format_bytes(memory.total)} of memory ({parts}) and {where} has "
            f"{format_bytes(self.there)} free; {hint}; preflight=false tries all the same"
        )


class PreflightChecks:
    """The preflights of many runs: what is alike for several is looked at once, and what is given is fetched once."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._fetched: set[str] = set()

    def of(self, options: Mapping[str, Any], run: Graph, store: Store) -> Preflight:
        """The preflight of a run.

        Args:
            options: Its resolved options.
            run: Its artifacts.
            store: Where its results are.
        """
        like = json.dumps([str(store.root), store.cache, options["trainer"]])
        known = self._known.setdefault(like, Known(trainer=options["trainer"], store=store))
        return Preflight(options, dataset=dataset_of(options)[0], streams=run.streams, known=known)

    def fetch(self, preflight: Preflight, artifacts: Sequence[Artifact]) -> None:
        """As :meth:`Preflight.fetch`, for what no run before has fetched."""
        preflight.fetch([each for each in artifacts if each.key not in self._fetched])
        self._fetched |= {each.key for each in artifacts}
