"""Alternative answers from the run's target model, the model to be unlearned (AltPO, arXiv 2409.13474)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.config.ranges import Count, Positive, Probability, Seed
from meow_lightning.config.signature import checked_ranges
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.local_model import Drawn, LocalModel, SamplingJob, answer_seeds, screened_response
from meow_lightning.inversion.screening import screening_reason
from meow_lightning.types import Fact

if TYPE_CHECKING:
    from meow_lightning.data.prompting import PromptEncoder

FIRST = 16  # initial batch size: answers are short, so that a killed run loses little
PLACEHOLDERS = ("{question}", "{answer}")
_PLACEHOLDER = re.compile("|".join(map(re.escape, PLACEHOLDERS)))


@checked_ranges("inversion")
class TargetSampling(Writer):
    """Writer that has the target model itself make up other answers, as AltPO does.

    The model knows the facts and gets question and true answer in ``instruction``, in its own prompt. Its alternatives
    are likely under the model, so that preferring them moves it little. AltPO's code samples five at temperature 1, and
    trains on all of them as they come. Here an answer that the token budget ended is dropped, with ``screen`` also one
    that :func:`~meow_lightning.inversion.screening.screening_reason` rejects, such as the true fact in other words, and
    the filter that all sources share comes after.

    An answer depends on the weights, the prompt, these options and
    ``random.Random(f"{seed}/{fact id}/{attempt}/{previous answers}/{i}")`` for the i-th answer of a request; not on the
    order or batching of the requests, except for rounding, as for :class:`~meow_lightning.inversion.local.Local`.

    Args:
        prompt_format: ``model.prompt``: ``template``, ``answer_prefix``, ``system`` and ``date``.
        instruction: Request for another answer, with ``{question}`` and ``{answer}``.
        lead_in: First words of every reply, which the model continues; ``None`` for none.
        stop: Texts that end an answer, as further questions do.
        screen: Whether answers are screened as those of ``inversion=self`` are.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        candidates: Number of answers to sample if a request has no ``count``, 1 or more.
        temperature: Above 0, since greedy answers would all be the same.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of an answer, 1 or more; the model's context may leave fewer.
        seed: Seed of sampling.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: As for :class:`~meow_lightning.inversion.local_model.LocalModel`.

    Raises:
        UserError: An option is out of its range, or ``instruction`` lacks a placeholder.
    """

    runs_locally: ClassVar[bool] = True
    samples: ClassVar[Literal["named", "base", "target"]] = "target"

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self,
        *,
        prompt_format: Mapping[str, Any],
        instruction: str,
        lead_in: str | None,
        stop: Sequence[str],
        screen: bool,
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
        if missing := [word for word in PLACEHOLDERS if word not in instruction]:
            raise UserError(f"inversion.instruction must contain {missing[0]}; given: {instruction[:60]!r}")
        self.candidates, self.instruction, self.lead_in, self.stop = candidates, instruction, lead_in, tuple(stop)
        self.temperature, self.top_p, self.max_new_tokens, self.seed = temperature, top_p, max_new_tokens, seed
        self.screen, self._format = screen, prompt_format
        self._model = LocalModel(
            name="inversion=target, the target model", folder=folder, dtype=dtype, attention=attention, device=device,
            adaptive_batch_size=adaptive_batch_size,
        )  # fmt: skip

    def write(
        self, requests: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request once all of its answers are sampled.

        A request whose prompt leaves too little of the model's context for an answer is returned as refused.

        Args:
            requests: At most one per fact.
            load_facts: Unused.
            should_continue: Called before each batch.

        Raises:
            UserError: The model cannot be loaded, its prompt is invalid, or its logits are not finite.
        """
        waiting: dict[str, list[SamplingJob]] = {}
        for request in requests:
            jobs = self._jobs(request)
            if jobs:
                waiting[request.fact.id] = jobs
            elif not should_continue():
                return
            else:
                refused = f"the prompt leaves no room for an answer in the model's context of {self._codec.context}"
                yield GenerationResponse(fact=request.fact.id, attempt=request.attempt, refused=refused)
        drawn: dict[str, list[int]] = {}
        every = [job for jobs in waiting.values() for job in jobs]
        for batch in self._model.sample(
            every, self._codec, temperature=self.temperature, top_p=self.top_p, generated=self.max_new_tokens,
            first=FIRST, should_continue=should_continue,
        ) if every else ():  # fmt: skip
            for job, ids in batch:
                drawn[job.seed] = ids
                jobs = waiting[job.request.fact.id]
                if all(each.seed in drawn for each in jobs):
                    yield self._response(job.request, jobs, [drawn[each.seed] for each in jobs])

    def _jobs(self, request: GenerationRequest) -> list[SamplingJob]:
        """Prepare a request: the same prompt for each answer; empty if the context leaves no room."""
        fact, codec = request.fact, self._codec
        texts = {"{question}": fact.question, "{answer}": fact.answer}
        asked = _PLACEHOLDER.sub(lambda match: texts[match[0]], self.instruction).strip()
        ids = codec.demonstrated_prompt_ids(asked, demonstrations=(), begun=self.lead_in or "")
        budget = min(self.max_new_tokens, codec.context - len(ids))
        if budget < 1:
            return []
        return [
            SamplingJob(request, ids, budget=budget, seed=seed)
            for seed in answer_seeds(self.seed, request, self.candidates)
        ]

    def _response(
        self, request: GenerationRequest, jobs: Sequence[SamplingJob], drawn: Sequence[Sequence[int]]
    ) -> GenerationResponse:
        """Build the response from the tokens of all answers to a request."""
        texts = [self._screened(ids, request.fact) for ids in drawn]
        read, written = sum(len(job.ids) for job in jobs), sum(map(len, drawn))
        return screened_response(request, texts, read=read, written=written)

    def _screened(self, ids: Sequence[int], fact: Fact) -> Drawn:
        """Decode an answer up to a text that ends it, with the reason why it is dropped, if it is."""
        text = self._codec.decode_answer(list(ids))
        places = [place for place in map(text.find, self.stop) if place >= 0]
        text = text[: min(places, default=len(text))].strip()
        if not places and ids[-1] not in self._codec.end_ids:
            return text, "unfinished"
        return text, screening_reason(text, fact, begun="", demonstrations=()) if self.screen else None

    @cached_property
    def _codec(self) -> PromptEncoder:
        return self._model.codec(self._format)
