"""predict: generate an answer to every evaluation question, and score every reference text under the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

from meow_lightning.data.encoding import estimated_length
from meow_lightning.data.examples import Dataset, Example, references
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.distributed import rank
from meow_lightning.evaluation.protocols.registry import PROTOCOLS, counted_rows, generation_batches
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.carry_over import can_carry_over
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import evaluator, load_dataset
from meow_lightning.stages.common.prompts import TRANSLATIONS, prompt_transform
from meow_lightning.stages.results.predict import PredictResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import AnswerRow, Segments

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder

# Bytes of JSON, measured on results of the default run.
TOKEN_BYTES = 75  # per token of a reference text: id, log-probability, hit, mean and deviation
GENERATED_BYTES = 6  # per generated token id
CHUNK = 256  # questions answered together, enough prompts to fill a generation batch on a CPU


def _row_bytes(fact: Example, budget: int) -> int:
    references = [fact.answer, *filter(None, [fact.paraphrase]), *fact.perturbed]
    tokens = sum(estimated_length(text) + 1 for text in references)
    generated = min(budget, estimated_length(fact.answer))
    texts = len(fact.question) + 3 * len(fact.answer)
    return 2 * ROW_BYTES + TOKEN_BYTES * tokens + GENERATED_BYTES * generated + texts


def _note_truncated_answers(
    work: StageContext, name: str, codec: PromptEncoder, sets: Mapping[str, Sequence[Example]]
) -> None:
    from meow_lightning.evaluation.protocols.predict import truncated_facts

    if rank() != 0:
        return
    for each, facts in sets.items():
        if count := truncated_facts(name, codec, facts):
            work.warn(
                f"{count} of {len(facts)} true answers of set {each!r} have more tokens than {PROTOCOLS[name].source} "
                "lets a model generate, so even a verbatim answer counts only in part (evaluation.protocol=none "
                "generates as many tokens as they need)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedQuestion:
    """A question of an evaluation set, and the ways in which it is asked: one, or under an attack several.

    Attributes:
        set: Name of the set.
        index: Place among the questions of the set that are asked, from 0.
        question: The question as the dataset has it.
        ways: The example as it is asked, at least once.
    """

    set: str
    index: int
    question: str
    ways: Sequence[Example]


def _asked(work: StageContext, dataset: Dataset, sets: Mapping[str, Sequence[Example]]) -> list[AskedQuestion]:
    """List the questions in the order of evaluation; those that the attack of this stage cannot ask are left out."""
    transform = prompt_transform(work.settings, work.inputs, dataset, translations=work.needs.get(TRANSLATIONS))
    found = []
    for name, facts in sets.items():
        every = [(fact, ways) for fact in facts if (ways := transform(fact))]
        found += [
            AskedQuestion(set=name, index=index, question=fact.question, ways=ways)
            for index, (fact, ways) in enumerate(every)
        ]
    return found


class Predict(Stage):
    """Answer and score every evaluation question."""

    name = "predict"
    version = 7
    after = ("unlearn", "attack", "translate")
    outputs = PredictResult.files
    oom_hint = "lower trainer.eval_batch_size or set evaluation.gradient_norm=false"
    splits = True

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield every reference text; none for a published protocol, which truncates rows."""
        if artifact.settings["evaluation"].get("protocol", "none") != "none":
            return
        sets = dataset.evaluation()
        transform = prompt_transform(artifact.settings, artifact.inputs, dataset, translations=None)
        for fact in chain.from_iterable(counted_rows("none", sets[name]) for name in artifact.settings["sets"]):
            for way in transform(fact):
                yield from (segments for segments in references(way) if segments.target)

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe the scoring of all reference texts, one generation per question, and the gradients.

        The texts of a question share its prompt; it is read again to generate an answer of similar length. A fact in
        several evaluation sets counts in each.
        """
        transform = prompt_transform(artifact.settings, artifact.inputs, planner.dataset, translations=None)
        sets = {
            name: list(chain.from_iterable(map(transform, each))) for name, each in planner.dataset.evaluation().items()
        }
        facts = [fact for each in sets.values() for fact in each]
        differentiated = [fact for name in artifact.settings["evaluation"]["gradients"] for fact in sets[name]]
        longest = max(map(planner.scored, facts))
        generated = max(planner.options["evaluation"].get("max_new_tokens", longest), longest)
        scored = sum(planner.scored(fact) * (3 + len(fact.perturbed)) for fact in facts)
        load = planner.inference_load(
            facts, texts=sum(2 + len(fact.perturbed) for fact in facts), prompts=len(facts), generated=generated,
            shared=False, gradient=bool(differentiated),
        )  # fmt: skip
        return InferenceWork(
            items=len(facts), load=load, rows=planner.trainer["eval_batch_size"],
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=scored + sum(2 * (planner.tokens(fact) - planner.scored(fact)) for fact in facts), scored=scored,
            gradient_tokens=sum(map(planner.tokens, differentiated)),
            gradient_scored=sum(map(planner.scored, differentiated)),
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the rows: reference texts token by token, and an answer of similar length."""
        budget = planner.options["evaluation"]["max_new_tokens"]
        return sum(_row_bytes(fact, budget) for facts in planner.dataset.evaluation().values() for fact in facts)

    def run(self, work: StageContext) -> None:
        """Write one line per question of every evaluation set; finished lines survive a kill.

        Of a question that is asked in several ways, the answer that leaks most counts; the manifest counts the ways.
        """
        from meow_lightning.evaluation.most_leaking import most_leaking
        from meow_lightning.evaluation.predict import generation_budget, generation_prompt, predict
        from meow_lightning.evaluation.protocols.predict import predict_under_protocol

        if can_carry_over(work, self.outputs):
            return
        model, codec = evaluator(work)
        settings, runtime = work.settings["evaluation"], work.runtime
        name = settings.get("protocol", "none")
        dataset = load_dataset(work)
        sets = {
            each: counted_rows(name, facts)
            for each, facts in dataset.evaluation().items()
            if each in work.settings["sets"]
        }
        asked = _asked(work, dataset, sets)
        ways = [(each.set, each.index, way) for each in asked for way in each.ways]
        if name == "none":
            longest = max(len(generation_prompt(codec, fact)) for _, _, fact in ways)
            most = max(generation_budget(codec, fact, max_new_tokens=settings["max_new_tokens"]) for _, _, fact in ways)
            slots = adaptive_batch_size(work, model, tokens=longest, generated=most, shared=False)
        else:
            _note_truncated_answers(work, name, codec, sets)

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, AnswerRow]]:
            batch = [(asked[number].set, asked[number].index, way) for number in numbers for way in asked[number].ways]
            if name == "none":
                rows = predict(
                    model, codec, batch, max_new_tokens=settings["max_new_tokens"], batch=runtime.eval_batch_size,
                    slots=slots, gradients=settings["gradients"], progress=progress,
                )  # fmt: skip
            else:
                rows = predict_under_protocol(
                    name,
                    model,
                    codec,
                    batch,
                    batch=runtime.eval_batch_size,
                    gradients=settings["gradients"],
                    progress=progress,
                )
            answered = iter(rows)
            for number in numbers:
                answers = list(islice(answered, len(asked[number].ways)))
                place = most_leaking(answers) if len(answers) > 1 else 0
                if len(answers) > 1:
                    work.report_counts(number, **{f"asked_as_{place + 1}": 1})
                yield number, replace(answers[place], question=asked[number].question)

        groups = generation_batches(name, [*Counter(each.set for each in asked).values()])
        least = CHUNK if name == "none" else 1
        in_chunks(
            work, groups, sizes=[len(each.ways) for each in asked], least=least, unit="questions",
            name=PredictResult.file, make=make,
        )  # fmt: skip
