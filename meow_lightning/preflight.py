"""Before any weight is loaded: are the models there, does it fit into memory and disk, how long will it take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from meow_lightning.asking import Asked, asking_need, asking_remedies
from meow_lightning.data.rows import rough_length, rough_tokens
from meow_lightning.estimate import (
    GPU_SLACK,
    HEAP_SLACK,
    Knobs,
    Load,
    Memory,
    Shape,
    lora_parameters,
    remedies,
    shape_of,
    tiny_shape,
    training_need,
    way,
)
from meow_lightning.machine import (
    Gpu,
    asking_flops,
    disk_needed,
    free_disk,
    free_memory,
    gpus,
    readable,
    seconds_like,
    training_flops,
)
from meow_lightning.models.given import check, lacking_weights, parameters
from meow_lightning.models.source import config_of, locate, parse
from meow_lightning.store import Artifact, Store
from meow_lightning.types import Dataset, Fact, UserError

SMALLER = 30  # times fewer operations than which a stored stage says nothing about the time of another
BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
LETTERS = {"characters": 1, "words": 6, "tokens": 4}  # of a unit that MEMO cuts by, roughly


@dataclass(frozen=True, slots=True)
class Outlook:
    """What making one artifact will take.

    Attributes:
        memory: At its peak; ``None`` where it is next to nothing.
        disk: Bytes it leaves in the store.
        passing: Further bytes on the disk while it is made.
        flops: Floating-point operations, roughly; 0 where they do not decide.
        seconds: Time; ``None`` where nothing alike was ever made.
        how: Where the time comes from: ``took``, ``like`` it took, by ``size``, or empty.
    """

    memory: Memory | None
    disk: int
    passing: int
    flops: float
    seconds: float | None
    how: str


class Preflight:
    """What a cell will take of this machine.

    Args:
        options: Resolved options of the cell.
        dataset: Its facts.
        streams: What its method trains on.
        store: What is there already.
    """

    def __init__(self, options: Mapping[str, Any], *, dataset: Dataset, streams: Sequence[str], store: Store) -> None:
        self.options, self.dataset, self.streams, self.store = options, dataset, streams, store
        self.trainer, self.model = options["trainer"], options["model"]
        self._outlooks: dict[str, Outlook] = {}

    def fetch(self, artifacts: Sequence[Artifact]) -> None:
        """Nothing; the given models that are to be used for the first time are here and whole.

        Raises:
            UserError: One cannot be had, or cannot be used.
        """
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
        largest = sorted((o.memory.total for _, o in made if o.memory is not None), reverse=True)
        together = sum(largest[: self.trainer["jobs"]])
        if self._gpus == [] and together > self.there:
            raise UserError(
                f"trainer.jobs={self.trainer['jobs']} stages at once need about {readable(together)} and this machine "
                f"has {readable(self.there)} free; say trainer.jobs=1, or preflight=false to try all the same"
            )
        need, free = self.disk([outlook for _, outlook in made]), free_disk(self.store.root)
        if need > free:
            raise UserError(
                f"the results need about {readable(need)} on the disk of {self.store.root} and {readable(free)} are "
                "free; choose another disk with store=FOLDER, or preflight=false to try all the same"
            )

    def disk(self, outlooks: Sequence[Outlook]) -> int:
        """Bytes on the disk at most while these are made."""
        passing = sorted((outlook.passing for outlook in outlooks), reverse=True)
        return sum(outlook.disk for outlook in outlooks) + sum(passing[: self.trainer["jobs"]])

    @cached_property
    def _gpus(self) -> list[Gpu]:
        return [] if self.trainer["accelerator"] == "cpu" else gpus()

    @cached_property
    def there(self) -> int:
        """Bytes that a stage may take: of the smallest GPU it would use, else of this machine."""
        return min((gpu.free for gpu in self._gpus[: self.trainer["devices"]]), default=0) or free_memory()

    def _check_device(self) -> None:
        wanted = self.trainer["accelerator"]
        if wanted == "gpu" and not self._gpus and not Path("/dev/kfd").exists():
            raise UserError(
                f"trainer={self.trainer['name']} computes on a GPU and there is none here; say trainer=cpu, or "
                "preflight=false where the look was wrong"
            )

    def outlook(self, artifact: Artifact) -> Outlook:
        """What making an artifact takes, or took; looked at once, before anything is made."""
        known = self._outlooks.get(artifact.key)
        return known or self._outlooks.setdefault(artifact.key, self._outlook(artifact))

    def _outlook(self, artifact: Artifact) -> Outlook:
        manifest = self.store.find(artifact)
        if manifest is not None:
            return Outlook(None, 0, 0, 0.0, manifest["seconds"], "took")
        memory, disk, passing, flops = self._size(artifact)
        alike, known = [], []
        for other in self._manifests(artifact.stage):
            if way(other["label"], other["settings"]) == way(artifact.label, artifact.settings):
                alike.append(other["seconds"])
            if other.get("devices") == self.trainer["devices"]:
                known.append((other.get("flops", 0), other["seconds"]))
        if alike:
            return Outlook(memory, disk, passing, flops, sorted(alike)[len(alike) // 2], "like")
        # A stage's start-up would be blown up with its size: much smaller ones say nothing.
        near = [(work, took) for work, took in known if work * SMALLER >= flops]
        seconds = seconds_like(flops, known=near) if flops else None
        return Outlook(memory, disk, passing, flops, seconds, "size" if seconds is not None else "")

    def remark(self, artifact: Artifact) -> dict[str, Any]:
        """What a manifest keeps of the estimate, for the plans to come."""
        return {"flops": known.flops if (known := self._outlooks.get(artifact.key)) else 0.0}

    def _manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        for path in (self.store.root / stage).glob("*/manifest.json"):
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
                if {"label", "settings", "seconds"} <= manifest.keys():
                    yield manifest
            except (OSError, ValueError, AttributeError):
                continue  # a damaged result says nothing about time

    def shape(self, artifact: Artifact) -> Shape:
        """The sizes of the model an artifact trains or asks."""
        root = next(each for each in artifact.walk() if each.stage == "finetune" and not each.needs)
        if "given" not in root.settings:
            return tiny_shape(root.settings["architecture"], root.settings["vocab_size"])
        source = parse(root.inputs["given"]["option"], root.inputs["given"]["weights"], words=())
        folder = config_of(source)
        return shape_of(
            json.loads((folder / "config.json").read_text(encoding="utf-8")),
            parameters=None if lacking_weights(folder) else parameters(folder),
        )

    def _size(self, artifact: Artifact) -> tuple[Memory | None, int, int, float]:
        """(memory, bytes kept, bytes in passing, operations) of an artifact."""
        if "given" in artifact.settings or artifact.stage in ("invert", "evaluate", "report"):
            return None, 0, 0, 0.0
        try:
            shape = self.shape(artifact)
        except UserError:  # a config.json that speaks otherwise: it may well run, only nothing can be foretold
            return None, 0, 0, 0.0
        if artifact.stage in ("score", "verify", "answer"):
            return self._asking(artifact, shape)
        rows = self._rows(artifact)
        knobs, load = self._knobs(artifact), self._load(artifact, rows)
        trained = shape.parameters if knobs.rank is None else lora_parameters(shape, rank=knobs.rank)
        kept = shape.parameters * load.value_bytes
        weight_bytes = max(4, load.value_bytes) if knobs.precision == "mixed" and not knobs.rank else load.value_bytes
        passing = disk_needed(shape, weight_bytes=weight_bytes, saved_bytes=0, trained=trained)
        tokens = sum(map(rough_tokens, rows)) * artifact.settings["recipe"]["epochs"]
        flops = training_flops(shape, tokens, checkpointing=knobs.checkpointing, adapters=knobs.rank is not None)
        return training_need(shape, knobs, load), kept, passing, float(flops)

    def _knobs(self, artifact: Artifact) -> Knobs:
        lora = artifact.settings["model"]["lora"]
        return Knobs(
            micro_batch=self.trainer["micro_batch"], checkpointing=self.trainer["checkpointing"],
            rank=None if lora is None else lora["rank"], precision=self.model["precision"],
            devices=self.trainer["devices"],
        )  # fmt: skip

    def _load(self, artifact: Artifact, rows: Sequence[Fact]) -> Load:
        return Load(
            streams=len(self.streams) if artifact.stage == "unlearn" else 1,
            tokens=max(map(rough_tokens, rows)), scored=max(rough_length(fact.answer) + 1 for fact in rows),
            value_bytes=BYTES[self.model["dtype"]], shared=not self._gpus,
            slack=GPU_SLACK if self._gpus else HEAP_SLACK,
        )  # fmt: skip

    def _rows(self, artifact: Artifact) -> list[Fact]:
        """The facts that a training visits in one epoch."""
        if artifact.stage == "unlearn":
            picked = self.options["method"].get("select", {}).get("k", 1)
            splits = [("forget", picked) if name == "inverted" else (name, 1) for name in self.streams]
            return [fact for split, times in splits for fact in self.dataset.facts(split) * times]
        if artifact.settings["splits"]:
            return [fact for split in artifact.settings["splits"] for fact in self.dataset.facts(split)]
        return self.dataset.stream(artifact.settings["recipe"]["rows"], artifact.settings["seed"])

    def _asked(self, artifact: Artifact) -> tuple[list[Fact], Asked]:
        facts = self.dataset.facts("forget")
        if artifact.stage == "answer":
            facts = [fact for each in self.dataset.evaluation().values() for fact in each]
        longest = max(rough_length(fact.answer) + 1 for fact in facts)
        settings = self.options["evaluation" if artifact.stage == "answer" else "memo"]
        return facts, Asked(
            weight_bytes=BYTES[self.model["dtype"]], tokens=max(map(rough_tokens, facts)), scored=longest,
            generated=settings.get("max_new_tokens", longest), shared=artifact.stage == "score", gpu=bool(self._gpus),
            jobs=1 if self._gpus else self.trainer["jobs"],
        )  # fmt: skip

    def _scored(self, artifact: Artifact) -> int:
        return self.trainer["eval_batch"] if artifact.stage == "answer" else 0  # the others only generate

    def _asking(self, artifact: Artifact, shape: Shape) -> tuple[Memory, int, int, float]:
        facts, asked = self._asked(artifact)
        memory = asking_need(
            shape, asked, rows=self._scored(artifact), there=self.there,
            slots=1 if artifact.stage == "verify" else self.trainer["slots"],
        )  # fmt: skip
        if artifact.stage == "answer":
            tokens = sum(rough_tokens(fact) * (2 + len(fact.perturbed)) + rough_length(fact.answer) for fact in facts)
        elif artifact.stage == "verify":
            tokens = artifact.settings["windows"] * asked.tokens
        else:
            each = self.options["inversion"].get("candidates", 1) if "inverted" in artifact.needs else 1
            step = self.options["memo"].get("size", 1) * LETTERS[self.options["memo"].get("unit", "tokens")]
            windows = [len(fact.answer) // step + 1 for fact in facts]
            tokens = each * sum(n * rough_tokens(fact) for n, fact in zip(windows, facts, strict=True))
        return memory, 0, 0, float(asking_flops(shape, tokens))

    def _too_large(self, artifact: Artifact, memory: Memory) -> str:
        name = f"{artifact.stage} {artifact.label}".strip()
        parts = ", ".join(
            f"{part} {readable(getattr(memory, part))}"
            for part in ("weights", "gradients", "optimizer", "activations", "logits", "cache")
            if getattr(memory, part) > memory.total / 50
        )
        where = f"the GPU ({self._gpus[0].name})" if self._gpus else "this machine"
        fits = " or ".join(f"{words} ({readable(total)})" for words, total in self._fitting(artifact)[:4])
        hint = f"what would fit: {fits}" if fits else "nothing that can be set would make it fit: take a smaller model"
        return (
            f"{name} needs about {readable(memory.total)} of memory ({parts}) and {where} has {readable(self.there)} "
            f"free; {hint}; preflight=false tries all the same"
        )

    def _fitting(self, artifact: Artifact) -> list[tuple[str, int]]:
        shape = self.shape(artifact)
        if artifact.stage in ("finetune", "unlearn"):
            load = self._load(artifact, self._rows(artifact))
            found = remedies(shape, self._knobs(artifact), load, there=self.there)
            return [each for each in found if artifact.needs or "lora" not in each[0]]  # random weights need all
        asked, rows = self._asked(artifact)[1], self._scored(artifact)
        return asking_remedies(shape, asked, rows=rows, slots=self.trainer["slots"], there=self.there)
