"""Requests to a language model that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meow_lightning.config.precision import DTYPE_BYTES
from meow_lightning.errors import UserError, check_choice
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, ShouldContinue
from meow_lightning.inversion.local_model import LocalModel, SamplingJob
from meow_lightning.inversion.prompt_template import ChatTemplate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from meow_lightning.data.prompting import PromptEncoder

Messages = Sequence[dict[str, str]]

LEAST = 16  # minimum remaining token budget worth a request
FEW = 4  # initial batch size
DATE = "26 Jul 2024"  # fixed date for every chat template, a Friday, so that prompts do not change from day to day
DAY = {
    "%Y": "2024", "%y": "24", "%m": "07", "%d": "26", "%B": "July", "%b": "Jul", "%A": "Friday", "%a": "Fri",
    "%H": "12", "%M": "00", "%S": "00",
}  # fmt: skip
# A macro that shadows the template function of that name, which reads the clock.
_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f".replace('{code}', '{words}')" for code, words in DAY.items())
    + " }}{%- endmacro %}"
)
_PROBES = [{"role": "system", "content": "Which-System-Stands-Here?"}, {"role": "user", "content": "Which-User-Here?"}]


class ChatModel:
    """An instruction-tuned causal language model on the devices of the job.

    Each request is rendered with the tokenizer's chat template: the date is fixed, thinking is disabled if the template
    supports ``enable_thinking``, and if the template has no system turn, the system message is prepended to the user's.
    Without a chat template the messages form one text that ends in ``heading``.

    A response depends on the weights, the chat, these options and ``random.Random(f"{seed}/{fact id}/{attempt}")``,
    which gives one number per token; not on the order or batching of the requests. Rounding does depend on the batch,
    though: a draw within rounding error of the boundary between two tokens may select the other one, more often in half
    precision than in float32. The batch size adapts to the time per batch: small if generation is slow, so that a
    killed run loses little, and as large as memory allows if it is fast.

    Of a checkpoint's generation config only the end tokens are used: no ``repetition_penalty``, ``temperature``,
    ``top_k``, ``top_p``, length or bad words.

    Args:
        model: Name given by the user, for messages.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        template: Builds the chat of a request.
        candidates: Number of answers to request if a request has no ``count``, 1 or more.
        context: Background on the facts for the model; ``None`` for none.
        temperature: 0 or more; 0 is greedy decoding.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of a response, 1 or more; the model's context may leave fewer.
        seed: Seed of sampling.
        written: What its replies hold, for messages.
        heading: What a text without chat template ends in.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: Called as ``adaptive_batch_size(model, tokens=…, generated=…)`` with the longest prompt and
            the longest response in tokens; returns the batch size controller.

    Raises:
        UserError: The dtype is not one of these.
    """

    def __init__(  # noqa: PLR0913 - one per option of a model
        self, *, model: str, dtype: str, attention: str, template: ChatTemplate, candidates: int, context: str | None,
        temperature: float, top_p: float, max_new_tokens: int, seed: int, written: str, heading: str, folder: Path,
        device: str, adaptive_batch_size: Callable[..., Any],
    ) -> None:  # fmt: skip
        check_choice("inversion.dtype", dtype, DTYPE_BYTES)
        self.model, self.candidates, self.context, self.seed = model, candidates, context, seed
        self.temperature, self.top_p, self.max_new_tokens = temperature, top_p, max_new_tokens
        self.written, self.heading, self._prompt = written, heading, template
        self._model = LocalModel(
            name=f"inversion.model={model}", folder=folder, dtype=dtype, attention=attention, device=device,
            adaptive_batch_size=adaptive_batch_size,
        )  # fmt: skip

    def check(self) -> None:
        """Do nothing: the model is checked as all models of a run are."""

    def load(self) -> None:
        """Load the model, so that free memory can be measured with it in place."""
        _ = self._codec, self._folded

    def write(
        self, requests: Sequence[GenerationRequest], *, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the response to each request, batch by batch, longest prompts first.

        A request whose prompt leaves too little of the model's context is returned as refused. When memory runs out,
        the remaining requests are retried with half the batch size.

        Args:
            requests: At most one per fact.
            should_continue: Called before each batch.

        Raises:
            UserError: The model cannot be loaded, its chat template rejects the chat, or its logits are not finite.
        """
        if not requests:
            return
        codec = self._codec
        jobs: list[SamplingJob] = []
        for request in requests:
            job = self._job(request)
            if isinstance(job, SamplingJob):
                jobs.append(job)
            elif not should_continue():
                return
            else:
                yield GenerationResponse(fact=request.fact.id, attempt=request.attempt, refused=job)
        for batch in self._model.sample(
            jobs, codec, temperature=self.temperature, top_p=self.top_p, generated=self.max_new_tokens,
            first=FEW, should_continue=should_continue,
        ):  # fmt: skip
            for job, ids in batch:
                yield GenerationResponse(
                    fact=job.request.fact.id, attempt=job.request.attempt, text=codec.decode(ids, keep_special=False),
                    cut=ids[-1] not in codec.end_ids, prompt_tokens=len(job.ids), completion_tokens=len(ids),
                )  # fmt: skip

    def notes(self) -> tuple[str, ...]:
        """Return a caveat if the model is not instruction-tuned."""
        if "_codec" not in vars(self) or self._codec.tokenizer.chat_template is not None:
            return ()
        return (
            f"inversion.model={self.model} has no chat template, so the request was a plain text to continue: "
            f"check the {self.written}, or use an instruction-tuned model",
        )

    def _job(self, request: GenerationRequest) -> SamplingJob | str:
        """Encode a request; returns why it cannot be sent if its prompt leaves too little of the model's context."""
        codec = self._codec
        if request.count is None:
            request = replace(request, count=self.candidates)
        messages = self._prompt.messages(request, context=self.context)
        ids = prompt_ids(codec, messages, folded=self._folded, heading=self.heading)
        left = codec.context - len(ids)
        if left < min(LEAST, self.max_new_tokens):
            return f"the prompt has {len(ids)} tokens and the model's context {codec.context}"
        seed = f"{self.seed}/{request.fact.id}/{request.attempt}"
        return SamplingJob(request, ids, budget=min(left, self.max_new_tokens), seed=seed)

    @cached_property
    def _codec(self) -> PromptEncoder:
        # the codec for raw text provides begin and end tokens and the model's context length
        return self._model.codec({"template": "{question}", "answer_prefix": ""})

    @cached_property
    def _folded(self) -> bool:
        with self._model.named_errors():
            return folds_system(self._codec.tokenizer)


def prompt_ids(codec: PromptEncoder, messages: Messages, *, folded: bool, heading: str) -> list[int]:
    """Encode a chat up to the start of the response, with one begin token if the tokenizer has one.

    Args:
        codec: Codec for raw text.
        messages: Result of :meth:`ChatTemplate.messages`.
        folded: Whether to prepend the system message to the user's.
        heading: What the text ends in without a chat template.
    """
    if codec.tokenizer.chat_template is None:
        return codec.encode_plain("\n\n".join([*(turn["content"] for turn in messages), f"{heading}\n"]))
    text = render_chat(codec.tokenizer, _folded(messages) if folded else messages)
    # chat templates include the begin token
    return list(codec.tokenizer(text, add_special_tokens=False).input_ids)


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Render a chat up to the start of the response, independent of the current date.

    Raises:
        jinja2.TemplateError: The tokenizer's chat template rejects the chat.
    """
    template = tokenizer.get_chat_template()
    text = tokenizer.apply_chat_template(
        list(messages), chat_template=_CLOCK + template if "strftime_now" in template else template, tokenize=False,
        add_generation_prompt=True, date_string=DATE, enable_thinking=False,
    )  # fmt: skip
    return str(text)


def folds_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template rejects or drops a system turn; ``False`` without a template.

    Raises:
        UserError: The template rejects a plain question too.
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
    why = "its output does not contain the question"
    try:
        text = render_chat(tokenizer, _folded(_PROBES))
    except TemplateError as error:
        text, why = "", str(error)
    if all(turn["content"] in text for turn in _PROBES):
        return True
    raise UserError(f"its chat template accepts no user question ({why}); use an instruction-tuned chat model")


def _folded(messages: Messages) -> list[dict[str, str]]:
    """Merge a chat into one user turn."""
    return [{"role": "user", "content": "\n\n".join(turn["content"] for turn in messages)}]
