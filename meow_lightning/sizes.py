"""What each artifact of a cell takes to make: memory by its parts, disk, operations; derived from shapes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    shape_of,
    tiny_shape,
    training_need,
)
from meow_lightning.machine import asking_flops, disk_needed, training_flops
from meow_lightning.models.given import lacking_weights, parameters
from meow_lightning.models.source import config_of, parse
from meow_lightning.remedies import remedies
from meow_lightning.store import Artifact
from meow_lightning.types import Dataset, Fact, UserError

BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
LETTERS = {"characters": 1, "words": 6, "tokens": 4}  # of a unit that MEMO cuts by, roughly
NOTHING: tuple[None, int, int, float] = (None, 0, 0, 0.0)


class Sizes:
    """What the artifacts of a cell take.

    Args:
        options: Resolved options of the cell.
        dataset: Its facts.
        streams: What its method trains on.
        gpu: Whether it is made on a GPU.
        there: Bytes that a stage may take.
    """

    def __init__(
        self, options: Mapping[str, Any], *, dataset: Dataset, streams: Sequence[str], gpu: bool, there: int
    ) -> None:
        self.options, self.dataset, self.streams, self.gpu, self.there = options, dataset, streams, gpu, there
        self.trainer, self.model = options["trainer"], options["model"]

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

    def size(self, artifact: Artifact) -> tuple[Memory | None, int, int, float]:
        """(memory, bytes kept, bytes in passing, operations) of an artifact."""
        if "given" in artifact.settings or artifact.stage in ("invert", "evaluate", "report"):
            return NOTHING
        if artifact.stage == "ask" and "teacher" not in artifact.needs:
            return NOTHING
        try:
            shape = self.shape(artifact)
        except UserError:  # a config.json that speaks otherwise: it may well run, only nothing can be foretold
            return NOTHING
        if artifact.stage == "ask":
            return self._teaching(artifact, shape)
        if artifact.stage in ("score", "verify", "answer"):
            return self._asking(artifact, shape)
        rows = self._rows(artifact)
        knobs, load = self._knobs(artifact), self._load(artifact, rows)
        trained = shape.parameters if knobs.rank is None else lora_parameters(shape, rank=knobs.rank)
        kept = shape.parameters * BYTES[self.model["dtype"]]
        weight_bytes = max(4, load.value_bytes) if knobs.precision == "mixed" and not knobs.rank else load.value_bytes
        passing = disk_needed(shape, weight_bytes=weight_bytes, saved_bytes=0, trained=trained)
        tokens = sum(map(rough_tokens, rows)) * artifact.settings["recipe"]["epochs"]
        flops = training_flops(shape, tokens, checkpointing=knobs.checkpointing, adapters=knobs.rank is not None)
        return training_need(shape, knobs, load), kept, passing, float(flops)

    def _knobs(self, artifact: Artifact) -> Knobs:
        lora = artifact.settings["model"]["lora"]
        return Knobs(
            micro_batch=self.trainer["micro_batch"], micro_tokens=self.trainer["micro_tokens"],
            checkpointing=self.trainer["checkpointing"], rank=None if lora is None else lora["rank"],
            precision=self.model["precision"], devices=self.trainer["devices"],
            kind=artifact.settings["recipe"].get("kind", "adamw"),
            strategy=self.trainer["strategy"],
        )  # fmt: skip

    def _load(self, artifact: Artifact, rows: Sequence[Fact]) -> Load:
        unlearns, curves = artifact.stage == "unlearn", self.options["callbacks"]
        watched = any(curves[name] for name in ("memo_every_epochs", "memo_every_steps", "evaluate_every_epochs"))
        return Load(
            streams=len(self.streams) if unlearns else 1, batch=artifact.settings["recipe"]["batch"],
            tokens=max(map(rough_tokens, rows)), scored=max(rough_length(fact.answer) + 1 for fact in rows),
            value_bytes=BYTES[self._computed], shared=not self.gpu,
            slack=GPU_SLACK if self.gpu else HEAP_SLACK,
            watched=unlearns and (watched or "stop" in artifact.settings),
            reference=artifact.inputs.get("reference") in ("model", "both"),
        )  # fmt: skip

    @property
    def _computed(self) -> str:
        """The precision that training computes in."""
        return "float64" if self.model["precision"] == "reproducible" else str(self.model["dtype"])

    def _rows(self, artifact: Artifact) -> list[Fact]:
        """The facts that a training visits in one epoch."""
        if artifact.stage == "unlearn":
            picked = self.options["method"].get("select", {}).get("k", 1)
            splits = [
                ("forget", picked if name == "inverted" else 1) if name in ("inverted", "idk") else (name, 1)
                for name in self.streams
            ]
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
            generated=settings.get("max_new_tokens", longest), shared=artifact.stage == "score",
            gradient=bool(self._moved(artifact)), gpu=self.gpu, jobs=1 if self.gpu else self.trainer["jobs"],
        )  # fmt: skip

    def _moved(self, artifact: Artifact) -> list[Fact]:
        """The facts of whose true answers the gradient is taken."""
        names = artifact.settings["evaluation"]["gradients"] if artifact.stage == "answer" else ()
        return [fact for name in names for fact in self.dataset.evaluation()[name]]

    def _scored(self, artifact: Artifact) -> int:
        return self.trainer["eval_batch"] if artifact.stage == "answer" else 0  # the others only generate

    def _taught(self) -> tuple[int, Asked]:
        """(questions, what is asked) of a teacher that is asked about every fact."""
        facts, node = self.dataset.facts("forget"), self.options["inversion"]
        words = sum(len(str(text)) for name, text in node["prompt"].items() if name != "version")
        tokens = rough_length("a" * words) + max(map(rough_tokens, facts))
        return len(facts), Asked(
            weight_bytes=BYTES[node["dtype"]], tokens=tokens, scored=0, generated=node["reply_tokens"], shared=False,
            gradient=False, gpu=self.gpu, jobs=1 if self.gpu else self.trainer["jobs"],
        )  # fmt: skip

    def _teaching(self, artifact: Artifact, shape: Shape) -> tuple[Memory, int, int, float]:
        questions, asked = self._taught()
        memory = asking_need(shape, asked, rows=0, there=self.there, slots=self.trainer["slots"])
        return memory, 0, 0, float(asking_flops(shape, questions * (asked.tokens + asked.generated)))

    def _asking(self, artifact: Artifact, shape: Shape) -> tuple[Memory, int, int, float]:
        facts, asked = self._asked(artifact)
        memory = asking_need(
            shape, asked, rows=self._scored(artifact), there=self.there,
            slots=1 if artifact.stage == "verify" else self.trainer["slots"],
        )  # fmt: skip
        if artifact.stage == "answer":
            tokens = sum(rough_tokens(fact) * (2 + len(fact.perturbed)) + rough_length(fact.answer) for fact in facts)
            tokens += 3 * sum(map(rough_tokens, self._moved(artifact)))  # training is three times reading
        elif artifact.stage == "verify":
            tokens = artifact.settings["windows"] * asked.tokens
        else:
            each = self.options["inversion"].get("candidates", 1) if "inverted" in artifact.needs else 1
            step = self.options["memo"].get("size", 1) * LETTERS[self.options["memo"].get("unit", "tokens")]
            windows = [len(fact.answer) // step + 1 for fact in facts]
            tokens = each * sum(n * rough_tokens(fact) for n, fact in zip(windows, facts, strict=True))
        return memory, 0, 0, float(asking_flops(shape, tokens))

    def fitting(self, artifact: Artifact) -> list[tuple[str, int]]:
        """The settings under which an artifact could be made in the memory there is, with the bytes it then takes."""
        shape = self.shape(artifact)
        if artifact.stage in ("finetune", "unlearn"):
            load = self._load(artifact, self._rows(artifact))
            found = remedies(shape, self._knobs(artifact), load, there=self.there)
            return [each for each in found if artifact.needs or "lora" not in each[0]]  # random weights need all
        asked = self._taught()[1] if artifact.stage == "ask" else self._asked(artifact)[1]
        rows = 0 if artifact.stage == "ask" else self._scored(artifact)
        return asking_remedies(shape, asked, rows=rows, slots=self.trainer["slots"], there=self.there)
