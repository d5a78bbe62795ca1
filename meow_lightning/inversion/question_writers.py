"""Language models that word questions for an attack, in this process and on a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from meow_lightning.config.ranges import Count, Probability, Range, Retries, Seconds, Seed, Temperature
from meow_lightning.config.signature import checked_ranges
from meow_lightning.inversion.chat import SERVER_OPTIONS, ChatWriter
from meow_lightning.inversion.chat_model import ChatModel
from meow_lightning.inversion.chat_server import ChatServer
from meow_lightning.inversion.prompt_template import ChatTemplate


@checked_ranges("inversion")
class LocalQuestionWriter(ChatWriter):
    """Local language model that words questions; see :class:`~meow_lightning.inversion.chat_model.ChatModel`.

    Attributes:
        template: Class of the template that builds the chat of a request.
        written: What its replies hold, for messages.
        heading: What a text without chat template ends in.

    Args:
        model: Name given by the user, for messages.
        dtype: float32, float64, bfloat16 or float16.
        attention: transformers' attention implementation, such as ``sdpa`` or ``eager``.
        prompt: Arguments of the template.
        temperature: 0 or more; 0 is greedy decoding.
        top_p: Nucleus sampling threshold, above 0, at most 1.
        max_new_tokens: Token limit of a reply, 1 or more; the model's context may leave fewer.
        seed: Seed of sampling.
        folder: Model and tokenizer as written by ``save_pretrained``.
        device: Device of the model, such as ``cpu`` or ``cuda:0``.
        adaptive_batch_size: As for :class:`~meow_lightning.inversion.chat_model.ChatModel`.

    Raises:
        UserError: An option is out of its range, or a placeholder of the prompt is missing or unknown.
    """

    template: ClassVar[Callable[..., ChatTemplate]]
    written: ClassVar[str]
    heading: ClassVar[str]
    unkeyed_options: ClassVar[tuple[str, ...]] = ("model",)  # its weights enter the key by their content
    runs_locally: ClassVar[bool] = True

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, model: str, dtype: str, attention: str, prompt: Mapping[str, Any], temperature: Temperature,
        top_p: Probability, max_new_tokens: Count, seed: Seed, folder: Path, device: str,
        adaptive_batch_size: Callable[..., Any],
    ) -> None:  # fmt: skip
        super().__init__(
            ChatModel(
                model=model, dtype=dtype, attention=attention, template=self.template(**prompt), candidates=1,
                context=None, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed,
                written=self.written, heading=self.heading, folder=folder, device=device,
                adaptive_batch_size=adaptive_batch_size,
            )
        )  # fmt: skip


@checked_ranges("inversion")
class EndpointQuestionWriter(ChatWriter):
    """Server that words questions; see :class:`~meow_lightning.inversion.chat_server.ChatServer`.

    Attributes:
        template: Class of the template that builds the chat of a request.

    Args:
        base_url: The server's URL, http or https; usually ends in ``/v1``.
        model: The model's name on that server.
        key_env: Environment variable with the API key, read when connecting; ``None`` for no key.
        prompt: Arguments of the template.
        temperature: 0 or more.
        top_p: Above 0, at most 1.
        max_new_tokens: Token limit of a reply, 1 or more.
        seed: Base seed of sampling; each request gets its own seed.
        extra: Further fields of every request; a value of ``None`` omits a default field.
        concurrency: Concurrent requests, 1 or more.
        requests_per_minute: Evenly spaced requests per minute, without retries, 1 or more; ``None`` for no limit.
        timeout: Seconds to wait without receiving a byte, above 0.
        deadline: Seconds allowed for a whole reply, above 0.
        reply_bytes: Size limit of a reply in bytes, 1 or more; longer ones count as refused.
        retries: Retries of a request, 0 or more.
        max_requests: Limit on requests of a stage, 1 or more; ``None`` for no limit.
        max_total_tokens: Limit on tokens read and written by a stage, 1 or more; ``None`` for no limit.

    Raises:
        UserError: An option is out of its range, or a placeholder of the prompt is missing or unknown.
    """

    template: ClassVar[Callable[..., ChatTemplate]]
    paid: ClassVar[bool] = True
    unkeyed_options: ClassVar[tuple[str, ...]] = SERVER_OPTIONS

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, base_url: str, model: str, key_env: str | None, prompt: Mapping[str, Any], temperature: Temperature,
        top_p: Probability, max_new_tokens: Count, seed: Seed, extra: dict | None,
        concurrency: Annotated[int, Range(1, 10**4)], requests_per_minute: Count | None, timeout: Seconds,
        deadline: Seconds, reply_bytes: Count, retries: Retries,
        max_requests: Annotated[int, Range(1, 10**12)] | None,
        max_total_tokens: Annotated[int, Range(1, 10**15)] | None,
    ) -> None:  # fmt: skip
        super().__init__(
            ChatServer(
                base_url=base_url, model=model, key_env=key_env, template=self.template(**prompt), context=None,
                sampling={"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens}, seed=seed,
                extra=extra, concurrency=concurrency, requests_per_minute=requests_per_minute, timeout=timeout,
                deadline=deadline, reply_bytes=reply_bytes, retries=retries,
            )
        )  # fmt: skip
        self.max_requests, self.max_total_tokens = max_requests, max_total_tokens
