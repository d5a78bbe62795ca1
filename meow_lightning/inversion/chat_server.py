"""Requests to any OpenAI-compatible chat completions server: vLLM, llama.cpp, Ollama, a hosted service."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from meow_lightning.errors import UserError, invalid_option, nearest
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, ShouldContinue
from meow_lightning.inversion.base_url import checked_address
from meow_lightning.inversion.openai_client import CONNECT, ServerConnection, error_text, parse_completion, text_of
from meow_lightning.inversion.prompt_template import ChatTemplate

REFUSALS = (400, 413, 422)  # statuses that reject a single request; others may succeed
KEYS = (401, 403)  # statuses that reject the key
NAMED = 5  # models of a server named in a message


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure that stops all further requests: the problem and its remedy."""

    text: str


Outcome = GenerationResponse | Failure


class ChatServer:
    """Concurrent requests to an OpenAI-compatible server; the client retries transient failures with backoff.

    Args:
        base_url: The server's URL, http or https; usually ends in ``/v1``.
        model: The model's name on that server.
        key_env: Environment variable with the API key, read when connecting; ``None`` for no key.
        template: Builds the chat of a request.
        context: Background on the facts for the model; ``None`` for none.
        sampling: ``temperature`` (0 or more), ``top_p`` (above 0, at most 1) and ``max_tokens`` of a response.
        seed: Base seed of sampling; each request gets its own seed.
        extra: Further fields of every request; a value of ``None`` omits a default field.
        concurrency: Concurrent requests, 1 or more.
        requests_per_minute: Evenly spaced requests per minute, without retries, 1 or more; ``None`` for no limit.
        timeout: Seconds to wait without receiving a byte, above 0.
        deadline: Seconds allowed for a whole response, above 0.
        reply_bytes: Size limit of a response in bytes, 1 or more; longer ones count as refused.
        retries: Retries of a request, 0 or more.

    Raises:
        UserError: The URL, the name of the model or of the variable, or the fields cannot be used.
    """

    def __init__(  # noqa: PLR0913 - one per option of a server
        self, *, base_url: str, model: str, key_env: str | None, template: ChatTemplate, context: str | None,
        sampling: Mapping[str, Any], seed: int, extra: Mapping[str, Any] | None, concurrency: int,
        requests_per_minute: int | None, timeout: float, deadline: float, reply_bytes: int, retries: int,
    ) -> None:  # fmt: skip
        if extra is not None and not isinstance(extra, Mapping):
            raise invalid_option("inversion.extra", extra, "a mapping of request fields, such as {seed: null}")
        if not isinstance(model, str) or not model.strip():
            raise invalid_option("inversion.model", model, "the model's name on the server")
        if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key_env)):
            raise UserError(  # without the given value, which may be the key itself
                "inversion.key_env is invalid: expected the name of an environment variable that contains the key, "
                "such as OPENAI_API_KEY"
            )
        self.base_url, self.model, self.key_env = checked_address(base_url), model, key_env
        self.seed, self.concurrency, self.requests_per_minute = seed, concurrency, requests_per_minute
        self.timeout, self.deadline, self.reply_bytes, self.retries = timeout, deadline, reply_bytes, retries
        self._prompt, self._context = template, context
        self._sampling, self._extra = dict(sampling), dict(extra or {})
        self._next_start = 0.0

    def load(self) -> None:
        """Do nothing: the server holds the model."""

    def notes(self) -> tuple[str, ...]:
        """Return no caveat."""
        return ()

    def check(self) -> None:
        """Check that the server responds and accepts the key.

        Raises:
            UserError: It does not; the message says what to do.
        """
        limit = min(self.timeout, self.deadline, CONNECT)
        with self._connect(timeout=limit, deadline=limit, retries=min(self.retries, 1)) as connection:
            failure = connection.submit(self._check_server(connection, limit)).result()
        if failure:
            raise UserError(failure)

    async def _check_server(self, connection: ServerConnection, limit: float) -> str:
        """Request the list of models; returns the problem and its remedy, or an empty text."""
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            await connection.client.models.with_raw_response.list()
        except APIStatusError as error:  # other statuses are fine: some servers do not list models
            return self._key_failure(connection, connection.reason(error)) if error.status_code in KEYS else ""
        except APIConnectionError as error:
            why = f"no complete reply within {limit:g} seconds" if connection.timed_out else connection.reason(error)
            return (
                f"inversion.base_url={self.base_url} does not answer ({why}); start the server, or set another "
                "inversion.base_url"
            )
        except OpenAIError as error:
            return (
                f"inversion.base_url={self.base_url} sends an unreadable list of models "
                f"({connection.unusable or connection.reason(error)}); check that it is the URL of an "
                "OpenAI-compatible server"
            )
        return ""

    def write(
        self, requests: Sequence[GenerationRequest], *, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the server's raw response to each request as soon as it arrives.

        A refused request gets an empty response with the reason. After a failure no further request is sent, pending
        responses are still yielded, and the error is raised last.

        Raises:
            UserError: The server refuses every request, rejects the key or the model, or is unreachable.
        """
        failure, refusals, received = "", list[GenerationResponse](), 0
        threshold = max(2, min(self.concurrency, len(requests)))  # a single refusal may be due to its question
        # in a later attempt or round the server has accepted requests before
        accepted = any(request.attempt or request.previous_answers or request.model_answer for request in requests)
        with self._connect(timeout=self.timeout, deadline=self.deadline, retries=self.retries) as connection:
            for result in self._results(connection, requests, should_continue):
                if isinstance(result, Failure):
                    failure = failure or result.text
                elif result.refused and not accepted:
                    refusals.append(result)  # held back, not stored: the server may be at fault
                    failure = failure or (self._all_refused(refusals) if len(refusals) >= threshold else "")
                else:
                    accepted = True
                    for reply in (*refusals, result):
                        received += 1
                        yield reply
                    refusals = []
                if failure:
                    connection.stop()
        failure = failure or (self._all_refused(refusals) if len(refusals) > 1 else "")
        if failure:
            rest = "run again to send only the others" if received else "then run again"
            joint = " " if failure.endswith("?") else "; "
            raise UserError(f"{failure}{joint}{received} of {len(requests)} requests got a reply; {rest}")
        yield from refusals

    def _connect(self, *, timeout: float, deadline: float, retries: int) -> ServerConnection:
        return ServerConnection(
            base_url=self.base_url, key_env=self.key_env, timeout=timeout, deadline=deadline,
            max_bytes=self.reply_bytes, retries=retries,
        )  # fmt: skip

    def _results(
        self, connection: ServerConnection, requests: Sequence[GenerationRequest], should_continue: ShouldContinue
    ) -> Iterator[Outcome]:
        """Yield the outcome of each request as soon as it is known."""
        queue, pending = deque(requests), set[Future[Outcome]]()
        while True:
            pause = None
            while queue and len(pending) < self.concurrency and not connection.stopped:
                pause = max(0.0, self._next_start - time.monotonic()) or None
                if pause:
                    break
                if not should_continue():
                    queue.clear()
                    break
                interval = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
                self._next_start = time.monotonic() + interval
                pending.add(connection.submit(self._request(connection, queue.popleft())))
            if pending:
                done, pending = wait(pending, timeout=pause, return_when=FIRST_COMPLETED)
                yield from (request.result() for request in done)
            elif pause:
                time.sleep(pause)
            else:
                return

    async def _request(self, connection: ServerConnection, request: GenerationRequest) -> Outcome:
        from openai import APIStatusError, APITimeoutError, OpenAIError

        draw = int.from_bytes(sha256(f"{self.seed}/{request.fact.id}/{request.attempt}".encode()).digest()[:4], "big")
        messages: Any = self._prompt.messages(request, context=self._context)
        fields = {"seed": draw & 0x7FFFFFFF, **self._sampling}
        options = {name: value for name, value in fields.items() if name not in self._extra}
        extra = {name: value for name, value in self._extra.items() if value is not None}
        try:
            raw = await connection.client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, extra_body=extra, **options
            )
        except APIStatusError as error:
            if error.status_code in REFUSALS:
                why = connection.reason(error)
                return GenerationResponse(
                    fact=request.fact.id, attempt=request.attempt, text="", requests=connection.sent, refused=why
                )
            return Failure(await self._status_failure(connection, error))
        except APITimeoutError:
            if connection.timed_out:
                return self._timed_out(connection)
            return Failure(
                f"{self.base_url} sent nothing for {self.timeout:g} seconds{_attempts_text(connection.sent)}; "
                f"raise inversion.timeout or lower inversion.concurrency={self.concurrency}"
            )
        except OpenAIError as error:
            if connection.unusable:
                return self._refusal(connection, request, connection.unusable)
            if connection.timed_out:
                return self._timed_out(connection)
            return Failure(
                f"the connection to {self.base_url} failed ({connection.reason(error)})"
                f"{_attempts_text(connection.sent)}; check that the server is running, or raise "
                f"inversion.retries={self.retries}"
            )
        body = text_of(raw.http_response)
        result = parse_completion(body)
        if result is None:
            reason = connection.redacted_for_display(error_text(body)) or "no readable text"
            return Failure(f"{self.base_url} sent no chat completion: {reason}; {self._version()}")
        if "refused" in result:
            return self._refusal(connection, request, result["refused"])
        result["text"] = connection.redacted(result["text"])
        return GenerationResponse(fact=request.fact.id, attempt=request.attempt, requests=connection.sent, **result)

    def _timed_out(self, connection: ServerConnection) -> Failure:
        return Failure(
            f"{self.base_url} sent no complete reply within {self.deadline:g} seconds"
            f"{_attempts_text(connection.sent)}; raise inversion.deadline or lower "
            f"inversion.max_new_tokens={self._sampling['max_tokens']}"
        )

    @staticmethod
    def _refusal(connection: ServerConnection, request: GenerationRequest, why: str) -> GenerationResponse:
        """Empty response for a request whose response is unusable."""
        shown = connection.redacted_for_display(why)
        return GenerationResponse(
            fact=request.fact.id, attempt=request.attempt, text="", requests=connection.sent, refused=shown
        )

    async def _status_failure(self, connection: ServerConnection, error: Any) -> str:
        status, why = error.status_code, connection.reason(error)
        if status in KEYS:
            return self._key_failure(connection, why)
        if status == 404:
            return await self._model_not_found(connection, why)
        if 300 <= status < 400:
            target = connection.redacted_for_display(error.response.headers.get("location", "another URL"))
            return f"inversion.base_url={self.base_url} redirects to {target} ({why}); set the URL of the server itself"
        response = f"{self.base_url} responded with {why}{_attempts_text(connection.sent)}"
        if status == 429:
            limit = self.requests_per_minute
            rate = "set inversion.requests_per_minute" if limit is None else f"inversion.requests_per_minute={limit}"
            return f"{response}; lower inversion.concurrency={self.concurrency} or {rate}"
        if status in (408, 409) or status >= 500:
            return f"{response}; check the server's log, or raise inversion.retries={self.retries}"
        return f"{response}; check inversion.base_url and the other inversion options"

    def _key_failure(self, connection: ServerConnection, why: str) -> str:
        if connection.with_key:
            advice = f"put a valid key into the environment variable {self.key_env}"
        elif self.key_env:
            advice = f"no key was sent: set the environment variable {self.key_env}"
        else:
            advice = "no key was sent: put one into an environment variable and set inversion.key_env to its name"
        return f"{self.base_url} denies access ({why}); {advice}"

    async def _model_not_found(self, connection: ServerConnection, why: str) -> str:
        models = await connection.models()
        if not models or self.model in models:
            return f"{self.base_url} serves no chat completions ({why}); {self._version()}"
        near = nearest(self.model, models)
        named = connection.redacted_for_display(", ".join(models[:NAMED])) + (" …" if len(models) > NAMED else "")
        expected = f"one of the models that {self.base_url} serves: {named}"
        return str(
            invalid_option(
                "inversion.model", self.model, expected, did_you_mean=near and connection.redacted_for_display(near)
            )
        )

    def _version(self) -> str:
        if urlsplit(self.base_url).path.strip("/"):
            return f"check that inversion.base_url={self.base_url} is complete"
        return f"such URLs usually end in /v1: set inversion.base_url={self.base_url}/v1"

    def _all_refused(self, refusals: Sequence[GenerationResponse]) -> str:
        return (
            f"{self.base_url} rejected each of the first {len(refusals)} requests ({refusals[0].refused}); check "
            f"inversion.model={self.model} and the other inversion options"
        )


def _attempts_text(sent: int) -> str:
    return f" ({sent} attempts)" if sent > 1 else ""
