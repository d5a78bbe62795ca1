"""Inverted facts written by a language model of one's own, in this process."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.distributed import release_memory
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.prompt_template import PromptTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from meow_lightning.data.prompting import PromptEncoder

Messages = Sequence[dict[str, str]]

LEAST = 16  # tokens of a reply for which it is worth asking
FEW = 4  # replies that are written together at first
SOON, LATE = 20.0, 90.0  # seconds of a batch below which the next one is twice as large, above which half
DATE = "26 Jul 2024"  # the day that every chat template is told, a Friday: texts must not change with the calendar
DAY = {
    "%Y": "2024", "%y": "24", "%m": "07", "%d": "26", "%B": "July", "%b": "Jul", "%A": "Friday", "%a": "Fri",
    "%H": "12", "%M": "00", "%S": "00",
}  # fmt: skip
# A macro hides the function of that name, which asks the clock.
_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f".replace('{code}', '{words}')" for code, words in DAY.items())
    + " }}{%- endmacro %}"
)
_PROBES = [{"role": "system", "content": "Which-System-Stands-Here?"}, {"role": "user", "content": "Which-User-Here?"}]


class Local(Writer):
    """Has an instruction-tuned causal language model write contradicting answers, on the devices of the job.

    Each question is a chat by the tokenizer's own template: its date is fixed, thinking aloud is switched off where the
    template knows ``enable_thinking``, and a template without system turns gets the system's words before the user's.
    Without a chat template the words are one text that ends in ``Answers:``.

    A reply depends on the weights, the chat, the options here and ``random.Random(f"{seed}/{fact id}/{attempt}")``,
    which gives one number per token; not on which questions are asked together, in which order, or how many side by
    side. Batches round differently, though: in float32 a draw within rounding of the border between two tokens may fall
    on the other one; with half the width this happens more often. So batches follow the time they take: a few replies
    where these are slow, lest a killed run lose much, as many as memory holds where they are fast.

    Nothing that a checkpoint ships about generating acts but its end tokens: no ``repetition_penalty``,
    ``temperature``, ``top_k``, ``top_p``, length or list of bad words.

    Args:
        model: What the user called it; for messages.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        prompt: Arguments of :class:`PromptTemplate`.
        candidates: Answers asked for where a question does not say how many, 1 or more.
        context: What the model shall know of the facts, in words; ``None`` for nothing.
        temperature: 0 or more; 0 takes the likeliest token.
        top_p: Above 0 to 1: share of the probability that is drawn from.
        max_new_tokens: Most new tokens of a reply, 1 or more; fewer where the model's context leaves fewer.
        seed: Seed of the draws.
        folder: Model and tokenizer, as ``save_pretrained`` writes them.
        device: Where the model goes, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: Called as ``adaptive_batch_size(model, tokens=…, generated=…)`` with the longest prompt and
            the longest reply in tokens; gives how many are written side by side.

    Raises:
        UserError: An option is out of its range.
    """

    unkeyed_options: ClassVar[tuple[str, ...]] = ("model",)  # its weights enter the key by their content
    runs_locally: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - what the YAML holds
        self,
        *,
        model: str,
        dtype: str,
        attention: str,
        prompt: Mapping[str, Any],
        candidates: int,
        context: str | None,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        seed: int,
        folder: Path,
        device: str,
        # gives an AdaptiveBatchSize; naming that class would import torch wherever options are checked
        adaptive_batch_size: Callable[..., Any],
    ) -> None:
        _check(dtype, candidates, temperature, top_p, max_new_tokens)
        self.model, self.candidates, self.context, self.seed = model, candidates, context, seed
        self.temperature, self.top_p, self.max_new_tokens = temperature, top_p, max_new_tokens
        self._prompt = PromptTemplate(**prompt)
        self._dtype, self._attention, self._folder, self._device = dtype, attention, folder, device
        self._adaptive_batch_size = adaptive_batch_size
        self._loaded: _Loaded | None = None

    def write(
        self, asks: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """The reply to each question, a batch at a time, those with the longest prompts first.

        A question whose prompt leaves too little of the model's context comes back as refused. When memory runs out,
        what is missing is asked with half as many side by side.

        Args:
            asks: Questions.
            load_facts: Not needed.
            should_continue: Asked before each batch.

        Raises:
            UserError: The model cannot be loaded, takes no chat, or gives no numbers.
        """
        if not asks:
            return
        loaded = self._load()
        jobs = [self._job(loaded, ask) for ask in asks]
        for job in jobs:
            if job.refused:
                if not should_continue():
                    return
                yield GenerationResponse(fact=job.ask.fact.id, attempt=job.ask.attempt, refused=job.refused)
        yield from self._batches(loaded, [job for job in jobs if not job.refused], should_continue)

    def notes(self) -> tuple[str, ...]:
        """Whether the model is one that was never taught to follow instructions."""
        if self._loaded is None or self._loaded.codec.tokenizer.chat_template is not None:
            return ()
        return (
            f"inversion.model={self.model} has no chat template, so it was asked as a text that it continues: read the "
            "inverted facts, or give an instruction-tuned model",
        )

    def _batches(
        self, loaded: _Loaded, jobs: Sequence[_Job], should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        from meow_lightning.generation.capabilities import batch_length_limit, supports_padding

        if not jobs:
            return
        # One budget per batch, alike lengths side by side; the longest first, so that too little memory shows at once.
        waiting = sorted(jobs, key=lambda job: (job.budget, len(job.ids)), reverse=True)
        longest = max((job.ids for job in jobs), key=len)
        batch_size = self._adaptive_batch_size(loaded.model, tokens=len(longest), generated=self.max_new_tokens)
        together, border = (
            supports_padding(loaded.model, longest, pad_id=loaded.codec.pad_id),
            batch_length_limit(loaded.model),
        )
        size = FEW
        while waiting and should_continue():
            most = min(size, batch_size.slots)
            batch = [job for job in waiting[:most] if job.budget == waiting[0].budget]
            if not together or (border is not None and len(waiting[0].ids) + waiting[0].budget > border):
                batch = waiting[:1]  # the longest of this budget, so that what follows it stays within the border
            replies: list[GenerationResponse] = []
            began = time.monotonic()
            try:
                replies = self._replies(loaded, batch)
            except (RuntimeError, MemoryError) as error:
                batch_size.slots = len(batch)  # so many were too many, whatever memory was thought to hold
                batch_size.halve(error)
            if not replies:
                release_memory()  # out here, where the error no longer holds the tensors of what failed
                continue
            del waiting[: len(batch)]
            size = next_size(size, len(batch), seconds=time.monotonic() - began)
            yield from replies

    def _replies(self, loaded: _Loaded, batch: Sequence[_Job]) -> list[GenerationResponse]:
        from meow_lightning.generation.sampling import sample_continuations

        codec = loaded.codec
        new = sample_continuations(
            loaded.model, [job.ids for job in batch], budget=batch[0].budget,
            rng=[random.Random(f"{self.seed}/{job.ask.fact.id}/{job.ask.attempt}") for job in batch],
            temperature=self.temperature, top_p=self.top_p, end_ids=codec.end_ids, pad_id=codec.pad_id,
        )  # fmt: skip
        return [
            GenerationResponse(
                fact=job.ask.fact.id, attempt=job.ask.attempt, text=codec.decode(ids, keep_special=False),
                cut=ids[-1] not in codec.end_ids, prompt_tokens=len(job.ids), completion_tokens=len(ids),
            )
            for job, ids in zip(batch, new, strict=True)
        ]  # fmt: skip

    def _job(self, loaded: _Loaded, ask: GenerationRequest) -> _Job:
        request = ask if ask.count is not None else replace(ask, count=self.candidates)
        messages = self._prompt.messages(request, context=self.context)
        ids, reads = prompt_ids(loaded.codec, messages, folded=loaded.folded), loaded.codec.context
        left = reads - len(ids)
        refused = left < min(LEAST, self.max_new_tokens)
        return _Job(
            ask=ask, ids=ids, budget=min(left, self.max_new_tokens),
            refused=f"the prompt is {len(ids)} tokens long and the model reads {reads}" if refused else "",
        )  # fmt: skip

    def _load(self) -> _Loaded:
        """Model and tokenizer, loaded once; whatever the model's files say about generating is cleared."""
        if self._loaded is not None:
            return self._loaded
        from transformers import GenerationConfig

        from meow_lightning.models.load import load_codec, load_model

        if not self._folder.is_dir():
            raise UserError(f"inversion.model={self.model}: there is no folder {self._folder}; make or fetch it again")
        try:
            model = load_model(self._folder, dtype=self._dtype, attention=self._attention)
            # The codec of a bare text knows begin and end tokens and the model's context.
            codec = load_codec(self._folder, prompt={"template": "{question}", "answer_prefix": ""}, model=model)
            folded = folds_system(codec.tokenizer)
        except (UserError, OSError) as error:
            reason = " ".join(str(error).split())[:300].replace("model.attention", "inversion.attention")
            raise UserError(f"inversion.model={self.model}: {reason}") from error
        model.generation_config = GenerationConfig()
        model.eval().to(self._device)  # type: ignore[arg-type]
        self._loaded = _Loaded(model=model, codec=codec, folded=folded)
        return self._loaded


def next_size(size: int, count: int, *, seconds: float) -> int:
    """How many replies are written together next: half as many after a slow batch, twice as many after a fast one.

    Args:
        size: How many could have been in the last batch, from 1.
        count: How many were.
        seconds: What it took.
    """
    if seconds > LATE:
        return max(1, count // 2)
    return 2 * size if seconds < SOON and count == size else size


def _check(dtype: str, candidates: int, temperature: float, top_p: float, max_new_tokens: int) -> None:
    check_choice("inversion.dtype", dtype, DTYPE_BYTES)
    for name, count in (("candidates", candidates), ("max_new_tokens", max_new_tokens)):
        if not isinstance(count, int) or count < 1:
            raise UserError(f"inversion.{name}={count} is not allowed; give a whole number, 1 or more")
    if not isinstance(temperature, (int, float)) or not 0 <= temperature < math.inf:
        raise UserError(f"inversion.temperature={temperature} is not allowed; give 0 (the likeliest token) or more")
    if not isinstance(top_p, (int, float)) or not 0 < top_p <= 1:
        raise UserError(f"inversion.top_p={top_p} is not allowed; give a share above 0 to 1 (1 draws from all)")


class _Loaded(NamedTuple):
    model: PreTrainedModel
    codec: PromptEncoder
    folded: bool


class _Job(NamedTuple):
    ask: GenerationRequest
    ids: list[int]
    budget: int
    refused: str


def prompt_ids(codec: PromptEncoder, messages: Messages, *, folded: bool) -> list[int]:
    """The tokens that a model reads of a chat, up to where its reply begins, with one begin token where it has one.

    Args:
        codec: Its tokenizer, with the rules of a bare text.
        messages: As :meth:`Prompt.messages` makes them.
        folded: Whether the system's words go before the user's.
    """
    if codec.tokenizer.chat_template is None:
        return codec.encode_plain("\n\n".join([*(turn["content"] for turn in messages), "Answers:\n"]))
    text = render_chat(codec.tokenizer, _folded(messages) if folded else messages)
    # Templates write the begin token themselves.
    return list(codec.tokenizer(text, add_special_tokens=False).input_ids)


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The text of a chat up to where the reply begins, the same on every day.

    Raises:
        jinja2.TemplateError: The tokenizer's chat template refuses the chat.
    """
    template = tokenizer.get_chat_template()
    text = tokenizer.apply_chat_template(
        list(messages), chat_template=_CLOCK + template if "strftime_now" in template else template, tokenize=False,
        add_generation_prompt=True, date_string=DATE, enable_thinking=False,
    )  # fmt: skip
    return str(text)


def folds_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template refuses a system turn or does not show it; ``False`` where there is no template.

    Raises:
        UserError: The template refuses a plain question too.
    """
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        return False
    try:
        text = render_chat(tokenizer, _PROBES)
    except TemplateError:
        text = ""
    if all(turn["content"] in text for turn in _PROBES):
        return False
    why = "the question is not in what it writes"
    try:
        text = render_chat(tokenizer, _folded(_PROBES))
    except TemplateError as error:
        text, why = "", str(error)
    if all(turn["content"] in text for turn in _PROBES):
        return True
    raise UserError(f"its chat template takes no question of a user ({why}); give an instruction-tuned chat model")


def _folded(messages: Messages) -> list[dict[str, str]]:
    """The chat as one turn of the user."""
    return [{"role": "user", "content": "\n\n".join(turn["content"] for turn in messages)}]
