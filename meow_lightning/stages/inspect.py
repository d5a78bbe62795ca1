"""inspect: read per-layer values of the facts to forget from a model's hidden states."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from meow_lightning.attacks.base import LayerAttack
from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.value_tokens import value_row
from meow_lightning.errors import NotFiniteError
from meow_lightning.evaluation.layers import LayerRow
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner, Requirements
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import in_chunks
from meow_lightning.stages.common.loading import evaluator, load_examples
from meow_lightning.stages.results.inspect import InspectResult
from meow_lightning.store.artifact import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 64  # questions; a killed run loses at most about as many
LAYER_BYTES = 22  # per layer and question, measured on results of the default run


class Inspect(Stage):
    """Read the decoder layers of a model."""

    name = "inspect"
    version = 1
    after = ("unlearn",)
    outputs = InspectResult.files
    oom_hint = "lower trainer.eval_batch_size"
    component = "attack"
    absent = "goal=inspect runs nothing without an attack on hidden states; set attacks=[logit_lens]"
    splits = True

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe one pass over every answer, and for an attack that patches two more with one per layer."""
        facts, layers = planner.dataset.facts("forget"), planner.layers(artifact)
        passes = 2 + layers if "target" in artifact.needs else 2
        load = planner.inference_load(facts, texts=len(facts), prompts=0, generated=0, shared=False, gradient=False)
        tokens, scored = (sum(map(count, facts)) for count in (planner.tokens, planner.scored))
        return InferenceWork(
            items=len(facts), load=replace(load, scored=max(load.scored, layers)),
            rows=planner.trainer["eval_batch_size"], generation_batch_size=0, tokens=passes * tokens,
            scored=passes * scored,
        )  # fmt: skip

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Estimate the resources; an attack that patches holds the weights of two models."""
        needed = super().requirements(artifact, planner)
        if needed.memory is None or "target" not in artifact.needs:
            return needed
        return replace(needed, memory=replace(needed.memory, weights=2 * needed.memory.weights))

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of a row per question."""
        return len(planner.dataset.facts("forget")) * (ROW_BYTES + LAYER_BYTES * planner.layers(artifact))

    def run(self, work: StageContext) -> None:
        """Write one line per question of the forget set; finished lines survive a kill.

        Raises:
            NotFiniteError: A number is NaN or infinite, for example because weights are.
        """
        from meow_lightning.generation.batching import NO_NUMBERS

        attack: LayerAttack = instantiate(work.settings["attack"], allow=work.inputs["allow"])
        model, codec = evaluator(work)
        target: PreTrainedModel | None = evaluator(work, need="target")[0] if "target" in work.needs else None
        facts = load_examples(work, "forget")
        rows = [value_row(codec, fact) for fact in facts]

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, LayerRow]]:
            read = {number: row for number in numbers if (row := rows[number]) is not None}
            layers = attack.read(
                model, [*read.values()], target=target, pad_id=codec.pad_id, batch=work.runtime.eval_batch_size
            )
            found = dict(zip(read, layers, strict=True))
            if not all(map(math.isfinite, itertools.chain(*found.values()))):
                raise NotFiniteError(NO_NUMBERS)
            for done, number in enumerate(numbers, start=1):
                row = read.get(number)
                text = "" if row is None else codec.decode(row.ids[row.prompt :], keep_special=True).strip()
                yield number, LayerRow(facts[number].id, text, found.get(number, []))
                progress(done)

        groups = [[number] for number in range(len(facts))]
        in_chunks(
            work, groups, sizes=[1] * len(facts), least=CHUNK, unit="questions", name=InspectResult.file, make=make
        )
