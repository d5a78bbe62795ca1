"""ability: run one task on a model, for the general ability that unlearning should keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from meow_lightning.config.instantiate import component_class
from meow_lightning.data.encoding import CHARACTERS
from meow_lightning.distributed import barrier, rank
from meow_lightning.evaluation.ability import BLOCK, RESULT
from meow_lightning.evaluation.ability_task import PLAIN_PROMPT, TARGET, AbilityTask, own_task
from meow_lightning.evaluation.local_questions import LocalQuestions
from meow_lightning.resources.requirements import InferenceWork, Planner
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import check_unchanged, evaluator, load_stored
from meow_lightning.stages.results.model import model_folder
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.jsonl import read_lines

if TYPE_CHECKING:
    from meow_lightning.evaluation.harness import EncodedModel, Question

ANSWERS = "answers.jsonl"
ANSWER_BYTES = 150  # per question
PASSAGE_BYTES = 1_000  # per question of a task of our own, whose answers are texts
TOGETHER = 32  # questions of such a task answered together
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
    """Run one task on a model: of lm-evaluation-harness, or of our own (``evaluation/ability_task.py``)."""

    name = "ability"
    version = 1
    after = ("unlearn", "attack")
    outputs = (RESULT, ANSWERS)
    quotes = False
    splits = True
    absent = "goal=ability runs nothing with ability=none; set ability=general or ability.tasks=[piqa]"

    def components(self, settings: Mapping[str, Any], *, allow: Iterable[str]) -> list[type]:
        """List the class of a task of our own."""
        return [component_class(settings["config"], allow=allow)] if is_own(settings) else []

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe passes over blocks of questions; without operations for a task whose questions are not local."""
        if is_own(artifact.settings):
            return _own_work(artifact, planner)
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
        return (PASSAGE_BYTES if is_own(artifact.settings) else ANSWER_BYTES) * question_count(artifact)

    def run(self, work: StageContext) -> None:
        """Write ``answers.jsonl``, one line per question, and the metrics; finished questions survive a kill."""
        from meow_lightning.evaluation.harness import HarnessTask, answer, blocks, characters

        settings, local = work.settings, local_questions(work.settings, work.inputs)
        if local is not None:
            check_unchanged(f"the questions of {local.task}", local.digests(), settings["data"])
            if is_own(settings):
                _run_own(work, local)
                return
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


def is_own(settings: Mapping[str, Any]) -> bool:
    """Whether a task is of our own: its definition names a class."""
    return TARGET in settings.get("config", {})


def _task(settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> AbilityTask:
    return own_task(f"ability.local.{settings['task']}", settings["config"], allow=inputs.get("allow", ()))


def _own_work(artifact: Artifact, planner: Planner) -> InferenceWork:
    """Describe the generation and the scoring of every question of a task of our own."""
    count, length = question_count(artifact), _task(artifact.settings, artifact.inputs).length
    load = planner.inference_load(
        planner.dataset.facts("forget"), texts=count, prompts=count, generated=length.generated, shared=False,
        gradient=False,
    )  # fmt: skip
    return InferenceWork(
        items=count, load=replace(load, tokens=sum(length), scored=length.generated), rows=TOGETHER,
        generation_batch_size=planner.trainer["generation_batch_size"], tokens=2 * count * sum(length),
        scored=2 * count * length.generated,
    )  # fmt: skip


def _run_own(work: StageContext, local: LocalQuestions) -> None:
    """Run a task of our own; its numbers are computed by one process."""
    task = _task(work.settings, work.inputs)
    model, encoder = evaluator(work)
    questions = task.questions(local, encoder, work.settings["limit"])
    slots = adaptive_batch_size(
        work, model, tokens=task.length.prompt, generated=task.length.generated, shared=False
    )  # fmt: skip

    def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, Any]]:
        yield from zip(
            numbers, task.answer(model, encoder, [questions[number] for number in numbers], slots=slots), strict=True
        )

    everything = range(len(questions))
    groups = [everything[start : start + TOGETHER] for start in everything[::TOGETHER]]
    in_chunks(work, groups, sizes=[1] * len(questions), least=1, unit="questions", name=ANSWERS, make=make)
    if rank() == 0:
        answers = list(read_lines(work.folder / ANSWERS))
        task.result(work.settings["task"], answers, _featurize(work)).write(work.folder)
    barrier(work.runtime.accelerator)


def _featurize(work: StageContext) -> Callable[[Sequence[str]], Any] | None:
    """Load the model that maps texts to features, if the task needs one."""
    from meow_lightning.distributed import device
    from meow_lightning.evaluation.mauve_score import last_states

    if "features" not in work.needs:
        return None
    settings = {**work.settings, "model": {**work.settings["model"], "prompt": PLAIN_PROMPT}}
    stored = load_stored(replace(work, settings=settings), model_folder(work.needs["features"]), dtype="float32")
    model = stored.inference().to(device(work.runtime.accelerator))
    return lambda texts: last_states(model, stored.codec, texts)
