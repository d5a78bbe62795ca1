"""Inverted facts from the run's base model, which never knew the facts: its own answers to the plain questions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.config.ranges import Count, CountOrZero, Positive, Probability, Seed
from meow_lightning.config.signature import checked_ranges
from meow_lightning.errors import check_choice
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.chat_model import folds_system
from meow_lightning.inversion.demonstrations import Demonstrations
from meow_lightning.inversion.lead_in import lead_in
from meow_lightning.inversion.local_model import Drawn, LocalModel, SamplingJob, answer_seeds, screened_response
from meow_lightning.inversion.screening import first_sentences, screening_reason
from meow_lightning.types import Fact

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder

TIMES_TRUTH, MORE = 1.2, 8  # new tokens of an answer: so many times those of the true answer, and so many more
FIRST = 16  # initial batch size: answers are short, so that a killed run loses little
STEP = 32  # budgets are multiples of this, so that answers of similar length share a batch


class _Draw(NamedTuple):
    """An answer to sample: its job, its lead-in and the demonstrations in its prompt."""

    job: SamplingJob
    begun: str
    demonstrations: tuple[Fact, ...]


@checked_ranges("inversion")
class SelfSampling(Writer):
    """Writer that samples the base model's own answers to the questions.

    The base model never saw the facts, so what it answers contradicts them by itself. It gets the question in
    the model's own prompt; ``instruction`` is added to the system message of a chat, or put before the first question
    where there is none. Answered questions of retain facts precede it
    (:class:`~meow_lightning.inversion.demonstrations.Demonstrations`), drawn for each answer, and it continues the true
    answer's words up to the first that states the fact (:func:`~meow_lightning.inversion.lead_in.lead_in`): both show
    the form of an answer, neither shows the fact. An answer is cut to whole sentences about as long as the true answer,
    then screened (:func:`~meow_lightning.inversion.screening.screening_reason`); a repeated request draws anew.

    An answer depends on the weights, the prompt, these options and
    ``random.Random(f"{seed}/{fact id}/{attempt}/{previous answers}/{i}")`` for the i-th answer of a request, with the
    number of previous answers; not on the order or batching of the requests, except for rounding, as for
    :class:`~meow_lightning.inversion.local.Local`.

    Args:
        prompt_format: ``model.prompt``: ``template``, ``answer_prefix``, ``system`` and ``date``.
        instruction: How to answer; ``None`` for none.
        demonstrations: Number of retain facts shown before the question, 0 or more; fewer if the model's context does
            not hold them.
        lead_in: Whether the model continues the first words of the true answer.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        candidates: Number of answers to sample if a request has no ``count``, 1 or more.
        temperature: Above 0, since greedy answers would all be the same.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of an answer, 1 or more; answers to questions with a short true answer get less.
        seed: Seed of sampling.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: As for :class:`~meow_lightning.inversion.local_model.LocalModel`.

    Raises:
        UserError: An option is out of its range.
    """

    runs_locally: ClassVar[bool] = True
    samples: ClassVar[Literal["named", "base", "target"]] = "base"
    reads_other_facts: ClassVar[bool] = True
    version: ClassVar[int] = 2

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self,
        *,
        prompt_format: Mapping[str, Any],
        instruction: str | None,
        demonstrations: CountOrZero,
        lead_in: bool,
        dtype: str,
        attention: str,
        candidates: Count,
        temperature: Positive,
        top_p: Probability,
        max_new_tokens: Count,
        seed: Seed,
        folder: Path,
        device: str,
        adaptive_batch_size: Callable[..., Any],
    ) -> None:
        check_choice("inversion.dtype", dtype, DTYPE_BYTES)
        self.candidates, self.instruction, self.seed = candidates, instruction, seed
        self.demonstrations, self.lead_in = demonstrations, lead_in
        self.temperature, self.top_p, self.max_new_tokens = temperature, top_p, max_new_tokens
        self._format = prompt_format
        self._model = LocalModel(
            name="inversion=self, the base model", folder=folder, dtype=dtype, attention=attention, device=device,
            adaptive_batch_size=adaptive_batch_size,
        )  # fmt: skip

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request once all of its answers are sampled.

        Args:
            requests: At most one per fact.
            load_facts: Called once if there are demonstrations.
            should_continue: Called before each batch.

        Raises:
            UserError: The model cannot be loaded, its prompt is invalid, or its logits are not finite.
        """
        if not requests:
            return
        codec = self._codec
        shown = Demonstrations(load_facts(), count=self.demonstrations) if self.demonstrations else None
        waiting = {request.fact.id: self._draws(request, shown) for request in requests}
        texts: dict[str, dict[str, Drawn]] = {fact: {} for fact in waiting}
        read: dict[str, list[int]] = {fact: [0, 0] for fact in waiting}
        jobs = {draw.job.seed: draw for each in waiting.values() for draw in each}
        for batch in self._model.sample(
            [draw.job for draw in jobs.values()], codec, temperature=self.temperature, top_p=self.top_p,
            generated=self.max_new_tokens, first=FIRST, should_continue=should_continue,
        ):  # fmt: skip
            for job, ids in batch:
                fact, draw = job.request.fact, jobs[job.seed]
                begun = codec.answer_ids(draw.begun) if draw.begun else []
                text = codec.decode_answer([*begun, *ids])
                cut = ids[-1] not in codec.end_ids
                texts[fact.id][job.seed] = _screened(first_sentences(text, fact.answer, cut=cut), fact, draw)
                read[fact.id][0] += len(job.ids)
                read[fact.id][1] += len(ids)
                if len(texts[fact.id]) == len(waiting[fact.id]):
                    drawn = [texts[fact.id][each.job.seed] for each in waiting[fact.id]]
                    yield screened_response(job.request, drawn, read=read[fact.id][0], written=read[fact.id][1])

    def _draws(self, request: GenerationRequest, shown: Demonstrations | None) -> list[_Draw]:
        """Prepare a request: one prompt per answer, with demonstrations of its own."""
        begun = lead_in(request.fact) if self.lead_in else ""
        tokens = TIMES_TRUTH * len(self._codec.answer_ids(request.fact.answer.removeprefix(begun))) + MORE
        wanted = min(self.max_new_tokens, STEP * -(-round(tokens) // STEP))
        return [
            self._draw(request, shown, begun, seed=seed, wanted=wanted)
            for seed in answer_seeds(self.seed, request, self.candidates)
        ]

    def _draw(
        self, request: GenerationRequest, shown: Demonstrations | None, begun: str, *, seed: str, wanted: int
    ) -> _Draw:
        """Encode a prompt; the first demonstrations are left out where the context has no room for all."""
        fact, context = request.fact, self._codec.context
        demonstrations = shown.draw(fact, random.Random(f"{seed}/demonstrations")) if shown else []
        ids = self._prompt_ids(fact.question, demonstrations, begun)
        while demonstrations and len(ids) + wanted > context:
            del demonstrations[0]
            ids = self._prompt_ids(fact.question, demonstrations, begun)
        job = SamplingJob(request, ids, min(wanted, max(1, context - len(ids))), seed=seed)
        return _Draw(job, begun, tuple(demonstrations))

    def _prompt_ids(self, question: str, demonstrations: Sequence[Fact], begun: str) -> list[int]:
        asked = [*(each.question for each in demonstrations), question]
        if self._asked_before:
            asked[0] = f"{self.instruction}\n\n{asked[0]}"
        pairs = [(each, other.answer) for each, other in zip(asked, demonstrations, strict=False)]
        return self._codec.demonstrated_prompt_ids(asked[-1], demonstrations=pairs, begun=begun)

    @cached_property
    def _codec(self) -> PromptEncoder:
        plain = self._model.codec(self._format)
        if self.instruction is None or self._asked_before:
            return plain
        system = " ".join(filter(None, (self._format.get("system"), self.instruction)))
        return self._model.codec({**self._format, "system": system})

    @cached_property
    def _asked_before(self) -> bool:
        """Whether the instruction stands before the question, since the prompt has no system message."""
        codec = self._model.codec(self._format)
        return self.instruction is not None and (codec.template != "chat" or folds_system(codec.tokenizer))


def _screened(text: str | None, fact: Fact, draw: _Draw) -> Drawn:
    """Screen an answer: its text, and the reason why it is dropped, if it is."""
    if text is None:
        return "", "unfinished"
    return text, screening_reason(text, fact, begun=draw.begun, demonstrations=draw.demonstrations)
