"""Inverted facts from any OpenAI-compatible chat completions server: vLLM, llama.cpp, Ollama, a hosted service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from meow_lightning.config.ranges import Count, Probability, Range, Retries, Seconds, Seed, Temperature
from meow_lightning.config.signature import checked_ranges
from meow_lightning.inversion.chat import SERVER_OPTIONS, ChatWriter
from meow_lightning.inversion.chat_server import ChatServer
from meow_lightning.inversion.prompt_template import PromptTemplate


@checked_ranges("inversion")
class Endpoint(ChatWriter):
    """Writer that asks a server; see :class:`~meow_lightning.inversion.chat_server.ChatServer`.

    Args:
        base_url: The server's URL, http or https; usually ends in ``/v1``.
        model: The model's name on that server.
        key_env: Environment variable with the API key, read when connecting; ``None`` for no key.
        prompt: Arguments of :class:`PromptTemplate`.
        candidates: Answers wanted per fact, 1 or more.
        context: Background on the facts for the model; ``None`` for none.
        temperature: 0 or more.
        top_p: Above 0, at most 1.
        max_new_tokens: Token limit of a response, 1 or more.
        seed: Base seed of sampling; each request gets its own seed.
        extra: Further fields of every request; a value of ``None`` omits a default field.
        concurrency: Concurrent requests, 1 or more.
        requests_per_minute: Evenly spaced requests per minute, without retries, 1 or more; ``None`` for no limit.
        timeout: Seconds to wait without receiving a byte, above 0.
        deadline: Seconds allowed for a whole response, above 0.
        reply_bytes: Size limit of a response in bytes, 1 or more; longer ones count as refused.
        retries: Retries of a request, 0 or more.
        max_requests: Limit on requests in a stage, 1 or more; ``None`` for no limit.
        max_total_tokens: Limit on tokens in a stage, 1 or more; ``None`` for no limit.

    Raises:
        UserError: A value is out of its range.
    """

    paid: ClassVar[bool] = True
    unkeyed_options: ClassVar[tuple[str, ...]] = SERVER_OPTIONS

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, base_url: str, model: str, key_env: str | None, prompt: Mapping[str, Any], candidates: Count,
        context: str | None, temperature: Temperature, top_p: Probability, max_new_tokens: Count, seed: Seed,
        extra: dict | None, concurrency: Annotated[int, Range(1, 10**4)], requests_per_minute: Count | None,
        timeout: Seconds, deadline: Seconds, reply_bytes: Count, retries: Retries,
        max_requests: Annotated[int, Range(1, 10**12)] | None,
        max_total_tokens: Annotated[int, Range(1, 10**15)] | None,
    ) -> None:  # fmt: skip
        super().__init__(
            ChatServer(
                base_url=base_url, model=model, key_env=key_env, template=PromptTemplate(**prompt), context=context,
                sampling={"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens}, seed=seed,
                extra=extra, concurrency=concurrency, requests_per_minute=requests_per_minute, timeout=timeout,
                deadline=deadline, reply_bytes=reply_bytes, retries=retries,
            )
        )  # fmt: skip
        self.max_requests, self.max_total_tokens = max_requests, max_total_tokens
