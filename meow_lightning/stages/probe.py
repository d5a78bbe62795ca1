"""probe: put a dataset's questions to the target model, before it is known which facts are forgotten and which kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from meow_lightning.config.instantiate import instantiate
from meow_lightning.data.encoding import digest_of, estimated_length
from meow_lightning.data.probed import ProbedAnswer, ProbedDataset
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import check_unchanged, evaluator
from meow_lightning.stages.results.probe import ProbeResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Fact, Segments

CHUNK = 256  # questions answered together, enough prompts to fill a generation batch on a CPU
ASKED_FIELDS = ("id", "question", "answer", "paraphrase", "perturbed")  # of a fact, read by this stage


class Probe(Stage):
    """Answer every question of a dataset that depends on the answers."""

    name = "probe"
    version = 1
    after = ("finetune",)
    outputs = ProbeResult.files
    absent = "goal=probe asks the model nothing: the facts of this dataset do not depend on a model; set dataset=known"
    oom_hint = "lower trainer.generation_batch_size or trainer.eval_batch_size"
    splits = True

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe one short generation per question, and the scoring of its texts where they are compared."""
        facts, settings = _questions(artifact.inputs), artifact.settings["probe"]
        scored = [each.target for fact in facts for each in _options(fact)] if settings["options"] else []
        answers = sum(estimated_length(text) + 1 for text in scored)
        prompts = sum(planner.tokens(fact) for fact in facts)
        generated = len(facts) * settings["max_new_tokens"]
        load = planner.inference_load(
            facts, texts=len(scored), prompts=len(facts), generated=settings["max_new_tokens"], shared=False,
            gradient=False,
        )  # fmt: skip
        return InferenceWork(
            items=len(facts), load=load, rows=planner.trainer["eval_batch_size"] if scored else 0,
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=prompts * (2 if scored else 1) + answers + generated, scored=answers + generated,
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the answers."""
        longest = 2 * 4 * artifact.settings["probe"]["max_new_tokens"]
        return (ROW_BYTES + longest) * len(_questions(artifact.inputs))

    def run(self, work: StageContext) -> None:
        """Write one line per question; finished lines survive a kill.

        Raises:
            UserError: The questions have changed since planning.
        """
        from meow_lightning.generation.engine import continue_greedily

        facts, settings = _questions(work.inputs), work.settings["probe"]
        check_unchanged("dataset.questions", digest_of(facts, ASKED_FIELDS), work.settings["questions"])
        model, codec = evaluator(work)
        prompts = [codec.generation_prompt_ids(fact.question, False) for fact in facts]
        budgets = [min(settings["max_new_tokens"], codec.context - len(prompt)) for prompt in prompts]
        slots = adaptive_batch_size(
            work, model, tokens=max(map(len, prompts)), generated=max(budgets), shared=False
        )  # fmt: skip

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, ProbedAnswer]]:
            from meow_lightning.evaluation.loglikelihood import loglikelihoods
            from meow_lightning.evaluation.metrics.probability import mean_logp

            texts = [codec.reference(*each) for number in numbers for each in _options(facts[number])]
            scored = texts if settings["options"] else []
            batch = work.runtime.eval_batch_size
            rows = dict(loglikelihoods(model, scored, pad_id=codec.pad_id, batch=batch, progress=None))
            likelihoods = iter([mean_logp(rows[place].logps) for place in range(len(scored))])
            batch_prompts, batch_budgets = (
                [prompts[number] for number in numbers],
                [budgets[number] for number in numbers],
            )
            greedy = continue_greedily(
                model, batch_prompts, budgets=batch_budgets, end_ids=codec.end_ids, pad_id=codec.pad_id, slots=slots,
                progress=progress,
            )  # fmt: skip
            generated = dict(greedy)
            for place, number in enumerate(numbers):
                ids = generated[place].ids
                own = [next(likelihoods) for _ in _options(facts[number])] if scored else []
                yield (
                    number,
                    ProbedAnswer(
                        facts[number].id,
                        start=codec.decode_answer(ids[: settings["answer_tokens"]], False),
                        text=codec.decode_answer(ids, False),
                        option=max(range(len(own)), key=own.__getitem__) if own else None,
                    ),
                )

        groups = [[number] for number in range(len(facts))]
        in_chunks(work, groups, sizes=[1] * len(facts), least=CHUNK, unit="questions", name=ProbeResult.file, make=make)


def _options(fact: Fact) -> list[Segments]:
    """List the true answer, in the words of the wrong ones, and these."""
    texts = (fact.answer if fact.paraphrase is None else fact.paraphrase, *fact.perturbed)
    return [fact.segments._replace(target=text) for text in texts]


def _questions(inputs: Mapping[str, Any]) -> list[Fact]:
    dataset: ProbedDataset = instantiate({**inputs["dataset"], "probed": None}, allow=inputs["allow"])
    return [*dataset.questions()]
