"""ability: run one task of lm-evaluation-harness on a model, for the general ability that unlearning should keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meow_lightning.data.encoding import CHARACTERS
from meow_lightning.distributed import barrier, rank
from meow_lightning.evaluation.ability import BLOCK, RESULT, LocalQuestions
from meow_lightning.resources.requirements import InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import check_unchanged, evaluator
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.jsonl import read_lines

if TYPE_CHECKING:
    from meow_lightning.evaluation.harness import EncodedModel, Question

ANSWERS = "answers.jsonl"
ANSWER_BYTES = 150  # per question
SCORED = 16  # columns with logits at the same time; the head runs over few positions at once


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A model's answers to the requests of one question.

    Attributes:
        task: The task.
        question: Number of the question in its task, from 0.
        answers: Per request [log-likelihood in nats, whether the text is the greedy one], the log-likelihood of a whole
            text, or a generated text.
    """

    task: str
    question: int
    answers: list[Any]


class Ability(Stage):
    """Run one task of lm-evaluation-harness on a model."""

    name = "ability"
    version = 1
    after = ("unlearn", "attack")
    outputs = (RESULT, ANSWERS)
    splits = True
    absent = "goal=ability runs nothing with ability=none; set ability=general or ability.tasks=[piqa]"

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe passes over blocks of questions; without operations for a task whose questions are not local."""
        count, amount = question_count(artifact), artifact.inputs.get("amount")
        tokens = 0 if amount is None else round(amount[1] / CHARACTERS * count / max(1, amount[0]))
        load = planner.inference_load(
            planner.dataset.facts("forget"), texts=1, prompts=0, generated=0, shared=False, gradient=False
        )
        return InferenceWork(
            items=count, load=replace(load, tokens=round(BLOCK / CHARACTERS), scored=SCORED), rows=1,
            generation_batch_size=0, tokens=tokens, scored=tokens,
        )  # fmt: skip

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the answers."""
        return ANSWER_BYTES * question_count(artifact)

    def run(self, work: StageContext) -> None:
        """Write ``answers.jsonl``, one line per question, and the metrics; finished questions survive a kill."""
        from meow_lightning.evaluation.harness import HarnessTask, answer, blocks, characters

        settings, local = work.settings, local_questions(work.settings, work.inputs)
        if local is not None:
            check_unchanged(f"the questions of {local.task}", local.digests(), settings["data"])
        task = HarnessTask(
            settings["task"], config=settings.get("config"), local=local, num_fewshot=settings["num_fewshot"],
            limit=settings["limit"],
        )  # fmt: skip
        questions = task.questions()
        model = _model(work, questions)

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, AnsweredQuestion]]:
            requests = [request for number in numbers for request in questions[number]]
            answers = iter(answer(model, requests))
            for number in numbers:
                first = questions[number][0]
                given = [next(answers) for _ in questions[number]]
                yield number, AnsweredQuestion(str(first.task_name), int(first.doc_id or 0), given)

        groups = blocks([characters(question) for question in questions])
        # One block per chunk: the last bits of an answer depend on what shares its forward pass.
        in_chunks(work, groups, sizes=[1] * len(questions), least=1, unit="questions", name=ANSWERS, make=make)
        if rank() == 0:
            task.result([row["answers"] for row in read_lines(work.folder / ANSWERS)]).write(work.folder)
        barrier(work.runtime.accelerator)


def question_count(artifact: Artifact) -> int:
    """Count the questions of an ability task; for one without local questions ``ability.limit``, or 0 if unknown."""
    limit, amount = artifact.settings["limit"], artifact.inputs.get("amount")
    if amount is None:
        return int(limit or 0)
    return int(amount[0] if limit is None else min(amount[0], limit))


def local_questions(settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> LocalQuestions | None:
    """Locate the local questions of a task; ``None`` for a task of lm-evaluation-harness, which loads its own."""
    if "data" not in settings:
        return None
    return LocalQuestions(task=settings["task"], files=inputs["files"], folder=inputs["folder"])


def _model(work: StageContext, questions: Sequence[Question]) -> EncodedModel:
    """Load the model, with a generation batch size if a task generates."""
    from meow_lightning.evaluation.harness import EncodedModel

    model, encoder = evaluator(work)
    prompts = [
        request.args[0] for question in questions for request in question if request.request_type == "generate_until"
    ]
    if not prompts:
        return EncodedModel(model, encoder, generation_batch_size=1)
    longest = min(encoder.context, max(len(encoder.encode_plain(prompt)) for prompt in prompts))
    slots = adaptive_batch_size(work, model, tokens=longest, generated=encoder.context - longest, shared=False)
    return EncodedModel(model, encoder, generation_batch_size=slots)
