"""extract: run an extraction attack on every fact to forget and store all attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from meow_lightning.attacks.extraction import Attempts, ExtractionAttack, ExtractionContext
from meow_lightning.attacks.proposer import LEADERS, replies_per_fact
from meow_lightning.config.instantiate import component_class, instantiate
from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.data.encoding import estimated_length, estimated_tokens
from meow_lightning.data.examples import Dataset, Example
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner, Requirements
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.attack_writer import check_writer
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import evaluator, load_dataset
from meow_lightning.stages.common.proposer import PROPOSER, stage_proposer
from meow_lightning.stages.results.extract import ExtractResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Segments

ASKED_FIELDS = ("id", "question", "answer", "value", "values")  # of a fact, read by this stage


class Extract(Stage):
    """Attack every fact to forget by asking."""

    name = "extract"
    version = 1
    after = ("unlearn",)
    outputs = ExtractResult.files
    component = "attack"
    absent = "goal=extract asks the models nothing without an attack that asks; set attacks=[sample]"
    oom_hint = "lower trainer.generation_batch_size"
    splits = True

    def components(self, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[type]:
        """List the class of the attack, and that of its proposer."""
        proposers = [component_class(settings[PROPOSER], allow=allow)] if PROPOSER in settings else []
        return [*super().components(settings, allow=allow), *proposers]

    def distributed(self, inputs: Mapping[str, Any]) -> bool:
        """Whether the facts are split: not where a proposer is paid, whose limits one process keeps."""
        return self.splits and not inputs.get(PROPOSER, {}).get("paid", False)

    def check(self, artifact: Artifact, *, gpu: bool) -> None:
        """Check that the server of a proposer answers."""
        check_writer(artifact.inputs, artifact.needs, PROPOSER)

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the questions with their true answers."""
        yield from (fact.segments for fact in dataset.evaluation()[artifact.settings["set"]])

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe as many generations per fact as the attack makes calls, of an answer's full length each."""
        facts, calls = planner.dataset.evaluation()[artifact.settings["set"]], _attack(artifact).calls
        generated = max(artifact.settings["max_new_tokens"], *map(planner.scored, facts))
        load = planner.inference_load(
            facts, texts=0, prompts=calls * len(facts), generated=generated, shared=False, gradient=False
        )
        prompts = sum(planner.tokens(fact) for fact in facts)
        return InferenceWork(
            items=len(facts), load=load, rows=0, generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=calls * (prompts + generated * len(facts)), scored=calls * generated * len(facts),
            resident_bytes=_proposer_bytes(artifact, planner),
        )  # fmt: skip

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Estimate the resources; a proposer's model stays in memory beside the one that is asked."""
        own = super().requirements(artifact, planner)
        if PROPOSER not in artifact.needs:
            return own
        asked = 0 if own.memory is None else own.memory.weights - _proposer_bytes(artifact, planner)
        other = planner.estimate(artifact.needs[PROPOSER], _proposing(artifact, planner, resident_bytes=asked), disk=0)
        known = [each for each in (own.memory, other.memory) if each is not None]
        largest = max(known, key=lambda memory: memory.total, default=None)
        return replace(own, memory=largest, flops=own.flops + other.flops)

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the texts, each about as long as the true answer, with as long a prompt."""
        facts, calls = planner.dataset.evaluation()[artifact.settings["set"]], _attack(artifact).calls
        replies = 0
        if artifact.inputs.get(PROPOSER, {}).get("paid", False):
            per_fact = replies_per_fact(_attack(artifact).proposals, artifact.settings[PROPOSER]["per_reply"])
            replies = len(facts) * per_fact * (ROW_BYTES + 4 * artifact.settings[PROPOSER]["max_new_tokens"])
        return replies + sum(calls * (ROW_BYTES + len(fact.question) + 2 * len(fact.answer)) for fact in facts)

    def run(self, work: StageContext) -> None:
        """Write one line per fact with all attempts on it; finished lines survive a kill."""
        from meow_lightning.attacks.victim import Victim
        from meow_lightning.evaluation.metrics.rouge import rouge_l_recall
        from meow_lightning.evaluation.predict import generation_budget, generation_prompt

        settings = work.settings
        attack: ExtractionAttack = instantiate(settings["attack"], allow=work.inputs["allow"])
        facts = load_dataset(work).evaluation()[settings["set"]]
        model, codec = evaluator(work)

        def budget(fact: Example) -> int:
            return generation_budget(codec, fact, max_new_tokens=settings["max_new_tokens"])

        proposer = stage_proposer(work, version=self.version)
        longest = max(len(generation_prompt(codec, fact)) for fact in facts)
        slots = adaptive_batch_size(work, model, tokens=longest, generated=max(map(budget, facts)), shared=False)
        victim = Victim(model, codec, slots=slots)

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Attempts]]:
            chosen = [facts[number] for number in numbers]
            context = ExtractionContext(
                victim=victim,
                overlap=rouge_l_recall,
                seed=settings["seed"],
                budget=budget,
                progress=progress,
                proposer=proposer,
            )
            for number, fact, tried in zip(numbers, chosen, attack.extract(chosen, context), strict=True):
                yield number, Attempts.of_fact(fact, tried)

        groups = [[number] for number in range(len(facts))]
        in_chunks(
            work, groups, sizes=[1] * len(facts), least=attack.together, unit="facts", name=ExtractResult.file,
            make=make,
        )  # fmt: skip
        if proposer is not None:
            proposer.finish()


def _attack(artifact: Artifact) -> ExtractionAttack:
    attack: ExtractionAttack = instantiate(artifact.settings["attack"], allow=artifact.inputs["allow"])
    return attack


def _proposer_bytes(artifact: Artifact, planner: Planner) -> int:
    """Estimate the bytes of the weights of a proposer that runs here; 0 without one."""
    if PROPOSER not in artifact.needs:
        return 0
    return planner.weights(artifact.needs[PROPOSER]) * DTYPE_BYTES[artifact.settings[PROPOSER]["dtype"]]


def _proposing(artifact: Artifact, planner: Planner, *, resident_bytes: int) -> InferenceWork:
    """Describe the requests to a proposer that runs here.

    Args:
        artifact: The artifact.
        planner: The run.
        resident_bytes: Bytes of the weights of the model that is asked.
    """
    facts, node = planner.dataset.evaluation()[artifact.settings["set"]], artifact.settings[PROPOSER]
    prompts = len(facts) * replies_per_fact(_attack(artifact).proposals, node["per_reply"])
    words = sum(len(str(text)) for name, text in node["prompt"].items() if name != "version")
    # The question, and the best prompts so far, each about twice as long with what stands around it.
    tokens = estimated_length("a" * words) + (1 + 2 * LEADERS) * max(map(estimated_tokens, facts))
    generated = node["max_new_tokens"]
    load = planner.teacher_load(dtype=node["dtype"], prompts=prompts, tokens=tokens, generated=generated)
    return InferenceWork(
        items=len(facts), load=load, rows=0, generation_batch_size=planner.trainer["generation_batch_size"],
        tokens=prompts * (tokens + generated), scored=prompts * generated, resident_bytes=resident_bytes,
    )  # fmt: skip
