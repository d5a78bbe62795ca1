"""slim: answers of a model and its pruned proxy to every question, and of the model with retrieved passages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from meow_lightning.data.examples import Dataset, EvalSet, expected_texts
from meow_lightning.data.streams.base import StreamBuilder
from meow_lightning.evaluation.known_judge import Features, features
from meow_lightning.evaluation.retrieval import OPTION, Retriever, corpus_digest, corpus_of, with_passages
from meow_lightning.evaluation.slim import SlimRow
from meow_lightning.resources.requirements import ROW_BYTES, InferenceWork, Planner, Requirements
from meow_lightning.stages.base import Stage, StageContext
from meow_lightning.stages.common.chunks import adaptive_batch_size, in_chunks
from meow_lightning.stages.common.loading import check_unchanged, evaluator, load_dataset
from meow_lightning.stages.results.slim import SlimResult
from meow_lightning.store.artifact import Artifact
from meow_lightning.types import Encoded, Fact, Segments

CHUNK = 8  # questions; a killed run loses at most about as many
ARMS = 3  # greedy answers of the model: without passages, with them, and with those that are not denied


class SlimQuestion(NamedTuple):
    """A question of an evaluation set whose value is marked."""

    of: EvalSet
    place: int
    fact: Fact


class Slim(Stage):
    """Collect the answers that a judge of a model's knowledge and a retrieval gate are measured on."""

    name = "slim"
    version = 1
    after = ("unlearn", "attack")
    outputs = SlimResult.files
    absent = "goal=slim asks the models nothing with probe=none; set probe=slim"
    oom_hint = "lower trainer.generation_batch_size or trainer.eval_batch_size"
    splits = True

    def texts(
        self, artifact: Artifact, dataset: Dataset, *, streams: Mapping[str, StreamBuilder]
    ) -> Iterator[Segments]:
        """Yield the questions with their true answers, and the passages of a file in the place of a question."""
        facts = [each.fact for each in slim_questions(dataset)]
        yield from (fact.segments for fact in facts)
        if artifact.inputs["corpus"] is not None:
            shortest = min((fact.answer for fact in facts), key=len)
            yield from (Segments(each.text, shortest) for each in corpus_of(dataset, artifact.inputs["corpus"]))

    def describe_work(self, artifact: Artifact, planner: Planner) -> InferenceWork:
        """Describe the greedy and sampled answers of both models, of the full length each."""
        facts = [each.fact for each in slim_questions(planner.dataset)]
        calls = ARMS + 1 + 2 * artifact.settings["judge"]["samples"]
        generated = max(artifact.settings["max_new_tokens"], *map(planner.scored, facts))
        load = planner.inference_load(
            facts, texts=0, prompts=calls * len(facts), generated=generated, shared=False, gradient=False
        )
        prompts = sum(planner.tokens(fact) for fact in facts)
        return InferenceWork(
            items=len(facts), load=load, rows=planner.trainer["eval_batch_size"],
            generation_batch_size=planner.trainer["generation_batch_size"],
            tokens=calls * (prompts + generated * len(facts)), scored=calls * generated * len(facts),
        )  # fmt: skip

    def requirements(self, artifact: Artifact, planner: Planner) -> Requirements:
        """Estimate the resources; the weights of the proxy, at most those of the model, are held beside it."""
        needed = super().requirements(artifact, planner)
        if needed.memory is None:
            return needed
        return replace(needed, memory=replace(needed.memory, weights=2 * needed.memory.weights))

    def disk(self, artifact: Artifact, planner: Planner) -> int:
        """Estimate the bytes of the texts, each about as long as the true answer, and of the passages."""
        passages = 2 * artifact.settings["gate"]["passages"] * ROW_BYTES
        facts = [each.fact for each in slim_questions(planner.dataset)]
        return sum(2 * ROW_BYTES + passages + len(fact.question) + 6 * len(fact.answer) for fact in facts)

    def run(self, work: StageContext) -> None:
        """Write one line per question; finished lines survive a kill.

        Raises:
            UserError: The file of passages has changed since planning.
        """
        dataset, settings = load_dataset(work), work.settings
        asked = slim_questions(dataset)
        passages = corpus_of(dataset, work.inputs["corpus"])
        check_unchanged(OPTION, corpus_digest(passages), settings["gate"]["corpus"])
        plain = [each.fact for each in asked]
        model, proxy = (_Respondent(work, need) for need in ("model", "proxy"))
        gated = _gated(work, Retriever(passages), plain, fits=model.fits)
        model.prepare([each.text for both in gated for each in both], plain)
        proxy.prepare([fact.question for fact in plain], plain)

        def make(numbers: Sequence[int], progress: Callable[[int], None]) -> Iterator[tuple[int, SlimRow]]:
            chosen = [plain[number] for number in numbers]
            own = model.judge(chosen, progress=lambda done: progress(done // 2))
            others = proxy.judge(chosen, progress=lambda done: progress((len(chosen) + done) // 2))
            with_them = [
                [each.text for each in model.answers([gated[number][arm].text for number in numbers], chosen)]
                for arm in (0, 1)
            ]
            for place, number in enumerate(numbers):
                every, allowed = gated[number]
                yield number, SlimRow(
                    set=asked[number].of.name, index=asked[number].place, purpose=asked[number].of.purpose,
                    question=plain[number].question, expected=expected_texts(plain[number]), text=own[place][0],
                    own=own[place][1], proxy_text=others[place][0], proxy=others[place][1], passages=every.passages,
                    text_on=with_them[0][place], allowed=allowed.passages, text_deny=with_them[1][place],
                )  # fmt: skip

        groups = [[number] for number in range(len(asked))]
        in_chunks(work, groups, sizes=[1] * len(asked), least=CHUNK, unit="questions", name=SlimResult.file, make=make)


def slim_questions(dataset: Dataset) -> list[SlimQuestion]:
    """List the questions of every evaluation set whose value is marked, in order.

    Args:
        dataset: The dataset of the run.
    """
    return [
        SlimQuestion(each, index, fact)
        for each in dataset.evaluation().values()
        for index, fact in enumerate(each)
        if isinstance(fact, Fact) and expected_texts(fact)
    ]


class _Gated(NamedTuple):
    """Passages that a question retrieves, and the text with them in the place of the question."""

    passages: tuple[str, ...]
    text: str


class _Said(NamedTuple):
    """A greedy answer: its tokens with prompt and end token, and its text."""

    row: Encoded
    text: str


class _Respondent:
    """A model that is asked, and whose answers are described.

    Args:
        work: The stage's context.
        need: Name of the model among the needs of the stage.
    """

    def __init__(self, work: StageContext, need: str) -> None:
        self._work, self._settings = work, work.settings["judge"]
        self._model, self._codec = evaluator(work, need=need)

    def fits(self, text: str, fact: Fact) -> bool:
        """Whether a prompt leaves room for the answer to a question, as long as to the question alone."""
        return len(self._prompt(text)) + self._budget(fact) <= self._codec.context

    def prepare(self, texts: Sequence[str], facts: Sequence[Fact]) -> None:
        """Fit batches of everything that will be asked into memory."""
        from meow_lightning.generation.sampled import Sampler, Sampling

        self._slots = adaptive_batch_size(
            self._work, self._model, tokens=max(len(self._prompt(text)) for text in texts),
            generated=max(map(self._budget, facts)), shared=False,
        )  # fmt: skip
        self._sampler = Sampler(
            self._model, end_ids=self._codec.end_ids, pad_id=self._codec.pad_id, slots=self._slots,
            sampling=Sampling(*(self._settings[name] for name in Sampling._fields)),
        )  # fmt: skip

    def answers(self, texts: Sequence[str], facts: Sequence[Fact]) -> list[_Said]:
        """Answer prompts about some facts greedily."""
        from meow_lightning.generation.engine import continue_greedily

        prompts = [self._prompt(text) for text in texts]
        found = dict(
            continue_greedily(
                self._model, prompts, budgets=[*map(self._budget, facts)], end_ids=self._codec.end_ids,
                pad_id=self._codec.pad_id, slots=self._slots, progress=None,
            )
        )  # fmt: skip
        said = []
        for place, prompt in enumerate(prompts):
            ids, end = found[place].ids, found[place].end
            row = Encoded((*prompt, *ids, *(() if end is None else (end,))), len(prompt))
            said.append(_Said(row, self._codec.decode_answer(ids, False)))
        return said

    def judge(self, facts: Sequence[Fact], *, progress: Callable[[int], None]) -> list[tuple[str, Features]]:
        """Answer greedily, and describe each answer by its likelihood and by sampled ones."""
        from meow_lightning.evaluation.loglikelihood import loglikelihoods

        said = self.answers([fact.question for fact in facts], facts)
        likelihoods = dict(
            loglikelihoods(
                self._model, [each.row for each in said], pad_id=self._codec.pad_id,
                batch=self._work.runtime.eval_batch_size, progress=None,
            )
        )  # fmt: skip
        found = []
        for place, (each, fact) in enumerate(zip(said, facts, strict=True)):
            found.append((each.text, features(each.text, likelihoods[place], self._samples(fact))))
            progress(place + 1)
        return found

    def _samples(self, fact: Fact) -> list[str]:
        seeds = [f"{self._settings['seed']}/{fact.id}/{number}" for number in range(self._settings["samples"])]
        texts = self._sampler.sample(self._prompt(fact.question), seeds=seeds, budget=self._budget(fact))
        return [self._codec.decode_answer(each.ids, False) for each in texts]

    def _prompt(self, text: str) -> list[int]:
        return self._codec.generation_prompt_ids(text, False)

    def _budget(self, fact: Fact) -> int:
        from meow_lightning.evaluation.predict import generation_budget

        return generation_budget(self._codec, fact, max_new_tokens=self._work.settings["max_new_tokens"])


def _gated(
    work: StageContext, retriever: Retriever, facts: Sequence[Fact], *, fits: Callable[[str, Fact], bool]
) -> list[tuple[_Gated, _Gated]]:
    """Retrieve for every question, from all passages and from those that are not denied, as many as fit."""
    prompt, most = work.settings["gate"]["prompt"], work.settings["gate"]["passages"]
    found, left_out = [], 0
    for fact in facts:
        both = [retriever.search(fact.question, most, deny=deny) for deny in (False, True)]
        fitting = [_fitting(each, prompt, fact, fits=fits) for each in both]
        left_out += sum(len(each.passages) < len(all_of) for each, all_of in zip(fitting, both, strict=True))
        found.append((fitting[0], fitting[1]))
    if left_out:
        work.warn(
            f"{left_out} of {2 * len(facts)} prompts have no room in the model's context for all of their passages and "
            "an answer, and got fewer; lower probe.gate.passages or give shorter ones"
        )
    return found


def _fitting(passages: Sequence[str], prompt: str, fact: Fact, *, fits: Callable[[str, Fact], bool]) -> _Gated:
    """Keep the best passages, as many as leave room for an answer."""
    for count in range(len(passages), 0, -1):
        text = with_passages(prompt, fact.question, passages[:count])
        if fits(text, fact):
            return _Gated(tuple(passages[:count]), text)
    return _Gated((), fact.question)
