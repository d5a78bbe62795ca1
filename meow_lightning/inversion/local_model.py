"""A language model run by a writer in this process: loading, and sampling in batches that fit memory and time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from meow_lightning.distributed import release_memory
from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, ShouldContinue

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from meow_lightning.data.prompting import PromptEncoder
    from meow_lightning.models.load import ModelFiles

SOON, LATE = 20.0, 90.0  # seconds per batch below which the batch size is doubled, above which it is halved


class SamplingJob(NamedTuple):
    """A prompt to continue once.

    Attributes:
        request: The request that it belongs to.
        ids: Token ids of the prompt.
        budget: Maximum number of new tokens, 1 or more.
        seed: Seed of the random numbers of this continuation.
    """

    request: GenerationRequest
    ids: list[int]
    budget: int
    seed: str


Drawn = tuple[str, str | None]
"""A sampled answer, and the reason why it is dropped, if it is."""


def answer_seeds(seed: int, request: GenerationRequest, count: int) -> list[str]:
    """Derive the seeds of the answers to a request, which differ between attempts and between rounds.

    Args:
        seed: Seed of sampling.
        request: The request.
        count: Number of answers if the request has none of its own.
    """
    # Later rounds count their attempts from 0 again, but know more answers.
    start = f"{seed}/{request.fact.id}/{request.attempt}/{len(request.previous_answers)}"
    return [f"{start}/{number}" for number in range(request.count or count)]


def screened_response(
    request: GenerationRequest, drawn: Sequence[Drawn], *, read: int, written: int
) -> GenerationResponse:
    """Build the response to a request from its screened answers.

    Args:
        request: The request.
        drawn: The answers, in order.
        read: Number of tokens of their prompts.
        written: Number of sampled tokens.
    """
    return GenerationResponse(
        fact=request.fact.id, attempt=request.attempt, answers=tuple(text for text, reason in drawn if reason is None),
        rejected=tuple((reason, text) for text, reason in drawn if reason is not None),
        prompt_tokens=read, completion_tokens=written,
    )  # fmt: skip


class LocalModel:
    """A causal language model on a device of the job, loaded at its first use.

    Args:
        name: The model as the user named it, for messages.
        folder: Model and tokenizer as written by ``save_pretrained``.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: Called as ``adaptive_batch_size(model, tokens=…, generated=…)`` with the longest prompt and
            the longest response in tokens; returns the batch size controller.
    """

    def __init__(
        self, *, name: str, folder: Path, dtype: str, attention: str, device: str,
        # returns an AdaptiveBatchSize; that class is not named here because option checks must not import torch
        adaptive_batch_size: Callable[..., Any],
    ) -> None:  # fmt: skip
        self.name, self._folder, self._device = name, folder, device
        self._dtype, self._attention, self._adaptive_batch_size = dtype, attention, adaptive_batch_size

    @property
    def model(self) -> PreTrainedModel:
        """The model in eval mode on its device, without the settings of its generation config.

        Raises:
            UserError: It cannot be loaded.
        """
        return self._loaded[0]

    def codec(self, prompt: Mapping[str, Any]) -> PromptEncoder:
        """Create a prompt encoder of the model, which also knows the end tokens of its generation config.

        Args:
            prompt: ``template`` and ``answer_prefix``, for chats also ``system`` and ``date``.

        Raises:
            UserError: The model cannot be loaded, or its tokenizer and the prompt are incompatible.
        """
        files = self._loaded[1]  # its errors are named already
        with self.named_errors():
            return files.codec(prompt)

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, ModelFiles]:
        from transformers import GenerationConfig

        from meow_lightning.models.load import ModelFiles, load_model, load_tokenizer

        if not self._folder.is_dir():
            raise UserError(f"{self.name}: the folder {self._folder} does not exist; create or download it again")
        with self.named_errors():
            model = load_model(self._folder, dtype=self._dtype, attention=self._attention)
            tokenizer = load_tokenizer(self._folder)
        files = ModelFiles(model.config, tokenizer, model.generation_config or GenerationConfig())
        model.generation_config = GenerationConfig()
        model.eval().to(self._device)  # type: ignore[arg-type]
        return model, files

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Prepend the name of the model to the message of an error."""
        try:
            yield
        except (UserError, OSError) as error:
            reason = " ".join(str(error).split())[:300].replace("model.attention", "inversion.attention")
            raise UserError(f"{self.name}: {reason}") from error

    def sample(
        self, jobs: Sequence[SamplingJob], codec: PromptEncoder, *, temperature: float, top_p: float, generated: int,
        first: int, should_continue: ShouldContinue,
    ) -> Iterator[list[tuple[SamplingJob, list[int]]]]:  # fmt: skip
        """Yield the jobs of each batch with their new tokens, longest first.

        When memory runs out, the remaining jobs are tried again with half the batch size.

        Args:
            jobs: The prompts.
            codec: The model's prompt encoder.
            temperature: 0 or more; 0 is greedy decoding.
            top_p: Nucleus sampling threshold, above 0, at most 1.
            generated: Largest budget that a job may have.
            first: Size of the first batch, 1 or more; the next ones follow the time that batches take.
            should_continue: Called before each batch.

        Raises:
            UserError: The logits are not finite.
        """
        from meow_lightning.generation.capabilities import batch_length_limit, supports_padding
        from meow_lightning.generation.sampling import sample_continuations

        if not jobs:
            return
        # One budget per batch, similar lengths together; longest first, so that a lack of memory shows at once.
        waiting = sorted(jobs, key=lambda job: (job.budget, len(job.ids)), reverse=True)
        longest = max((job.ids for job in jobs), key=len)
        batch_size = self._adaptive_batch_size(self.model, tokens=len(longest), generated=generated)
        together, border = (
            supports_padding(self.model, longest, pad_id=codec.pad_id),
            batch_length_limit(self.model),
        )
        size = first
        while waiting and should_continue():
            most = min(size, batch_size.slots)
            batch = [job for job in waiting[:most] if job.budget == waiting[0].budget]
            if not together or (border is not None and len(waiting[0].ids) + waiting[0].budget > border):
                batch = waiting[:1]  # the longest of this budget, which bounds those that follow
            new: list[list[int]] = []
            began = time.monotonic()
            try:
                new = sample_continuations(
                    self.model, [job.ids for job in batch], budget=batch[0].budget,
                    rng=[random.Random(job.seed) for job in batch], temperature=temperature, top_p=top_p,
                    end_ids=codec.end_ids, pad_id=codec.pad_id,
                )  # fmt: skip
            except (RuntimeError, MemoryError) as error:
                batch_size.slots = len(batch)  # this batch was too large, whatever the estimate
                batch_size.halve(error)
            if not new:
                release_memory()  # outside the except block: the error no longer references the batch's tensors
                continue
            del waiting[: len(batch)]
            size = next_size(size, len(batch), seconds=time.monotonic() - began)
            yield list(zip(batch, new, strict=True))


def next_size(size: int, count: int, *, seconds: float) -> int:
    """Return the next batch size: halved after a slow batch, doubled after a fast one.

    Args:
        size: Allowed size of the last batch, from 1.
        count: Its actual size.
        seconds: Its duration.
    """
    if seconds > LATE:
        return max(1, count // 2)
    return 2 * size if seconds < SOON and count == size else size
