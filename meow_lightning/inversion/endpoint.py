"""Inverted facts from any OpenAI-compatible chat completions server: vLLM, llama.cpp, Ollama, a hosted service."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from queue import Empty, SimpleQueue
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from meow_lightning.config.ranges import Count, Probability, Range, Retries, Seconds, Seed, Temperature
from meow_lightning.data.checks import check_range
from meow_lightning.errors import UserError, invalid_option, nearest
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, LoadFacts, ShouldContinue, Writer
from meow_lightning.inversion.base_url import checked_address
from meow_lightning.inversion.openai_client import CONNECT, ServerConnection, error_text, parse_completion, text_of
from meow_lightning.inversion.prompt_template import PromptTemplate

REFUSALS = (400, 413, 422)  # statuses that reject a single request; others may succeed
KEYS = (401, 403)
NAMED = 5  # at most this many models of a server in a message


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure that stops all further requests: what happened and what to do."""

    text: str


Outcome = GenerationResponse | Failure


class Endpoint(Writer):
    """Writer that sends concurrent requests to a server; the client retries transient failures with backoff.

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
    unkeyed_options: ClassVar[tuple[str, ...]] = (
        "base_url", "key_env", "concurrency", "requests_per_minute", "timeout", "deadline", "reply_bytes", "retries",
        "max_requests", "max_total_tokens",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - one per key of the YAML
        self, *, base_url: str, model: str, key_env: str | None, prompt: Mapping[str, Any], candidates: Count,
        context: str | None, temperature: Temperature, top_p: Probability, max_new_tokens: Count, seed: Seed,
        extra: dict | None, concurrency: Annotated[int, Range(1, 10**4)], requests_per_minute: Count | None,
        timeout: Seconds, deadline: Seconds, reply_bytes: Count, retries: Retries,
        max_requests: Annotated[int, Range(1, 10**12)] | None,
        max_total_tokens: Annotated[int, Range(1, 10**15)] | None,
    ) -> None:  # fmt: skip
        whole = {
            "candidates": candidates, "max_new_tokens": max_new_tokens, "concurrency": concurrency,
            "reply_bytes": reply_bytes,
        }  # fmt: skip
        bounds = {
            "requests_per_minute": requests_per_minute,
            "max_requests": max_requests,
            "max_total_tokens": max_total_tokens,
        }
        for name, value in {**whole, **{name: most for name, most in bounds.items() if most is not None}}.items():
            check_range(f"inversion.{name}", value, 1, None)
        check_range("inversion.retries", retries, 0, None)
        _check_number("temperature", temperature, at_least=0.0, above=-math.inf, at_most=math.inf)
        _check_number("top_p", top_p, at_least=-math.inf, above=0.0, at_most=1.0)
        for name, seconds in (("timeout", timeout), ("deadline", deadline)):
            _check_number(name, seconds, at_least=-math.inf, above=0.0, at_most=math.inf)
        if extra is not None and not isinstance(extra, Mapping):
            raise UserError(
                f"inversion.extra={extra} holds no fields; give them as {{name: value}}, such as {{seed: null}}"
            )
        if not isinstance(model, str) or not model.strip():
            raise UserError(f"inversion.model={model} is not a name; give the model's name on the server")
        if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key_env)):
            raise UserError(  # without the given value, which may be the key itself
                "inversion.key_env is not the name of an environment variable; put the key into one and name that one, "
                "such as inversion.key_env=OPENAI_API_KEY"
            )
        self.base_url, self.model, self.key_env = checked_address(base_url), model, key_env
        self.candidates, self.max_requests, self.max_total_tokens = candidates, max_requests, max_total_tokens
        self.seed, self.concurrency, self.requests_per_minute = seed, concurrency, requests_per_minute
        self.timeout, self.deadline, self.reply_bytes, self.retries = timeout, deadline, reply_bytes, retries
        self._prompt, self._context = PromptTemplate(**prompt), context
        self._draw: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_tokens": max_new_tokens}
        self._extra: dict[str, Any] = extra or {}
        self._next_start = 0.0

    def check(self) -> None:
        """Check that the server responds and accepts the key.

        Raises:
            UserError: It does not; the message says what to do.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        failure = ""
        limit = min(self.timeout, self.deadline, CONNECT)
        with self._connect(timeout=limit, deadline=limit, retries=min(self.retries, 1)) as connection:
            try:
                connection.client.models.with_raw_response.list()
            except APIStatusError as error:  # other statuses are fine: some servers do not list models
                failure = self._key_failure(connection, connection.reason(error)) if error.status_code in KEYS else ""
            except APIConnectionError as error:
                why = f"no whole reply within {limit:g} seconds" if connection.timed_out else connection.reason(error)
                failure = (
                    f"inversion.base_url={self.base_url}: nothing answers there ({why}); start the server, or give "
                    "another inversion.base_url"
                )
            except OpenAIError as error:
                failure = (
                    f"inversion.base_url={self.base_url} sends a list of models that is not read "
                    f"({connection.unusable or connection.reason(error)}); see whether it is the address of such a "
                    "server"
                )
        if failure:
            raise UserError(failure)

    def write(
        self, asks: Sequence[GenerationRequest], *, load_facts: LoadFacts, should_continue: ShouldContinue
    ) -> Iterator[GenerationResponse]:
        """Yield the server's raw response to each request as soon as it arrives.

        A refused request gets an empty response with the reason. After a failure no further request is sent, pending
        responses are still yielded, and the error is raised last.

        Raises:
            UserError: The server refuses every request, rejects the key or the model, or is unreachable.
        """
        failure, refusals, received = "", list[GenerationResponse](), 0
        threshold = max(2, min(self.concurrency, len(asks)))  # a single refusal may be due to its question
        # in a later attempt or round the server has accepted requests before
        accepted = any(ask.attempt or ask.previous_answers or ask.model_answer for ask in asks)
        with self._connect(timeout=self.timeout, deadline=self.deadline, retries=self.retries) as connection:
            for result in self._results(connection, asks, should_continue):
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
            rest = "run again, and only the rest is asked" if received else "run again then"
            joint = " " if failure.endswith("?") else "; "
            raise UserError(f"{failure}{joint}{received} of {len(asks)} questions got a reply: {rest}")
        yield from refusals

    def _connect(self, *, timeout: float, deadline: float, retries: int) -> ServerConnection:
        return ServerConnection(
            base_url=self.base_url, key_env=self.key_env, timeout=timeout, deadline=deadline,
            max_bytes=self.reply_bytes, retries=retries,
        )  # fmt: skip

    def _results(
        self, connection: ServerConnection, asks: Sequence[GenerationRequest], should_continue: ShouldContinue
    ) -> Iterator[Outcome]:
        """Yield the outcome of each request as soon as it is known."""
        queue, under_way = deque(asks), 0
        results: SimpleQueue[Outcome | None] = SimpleQueue()
        while True:
            pause = None
            while queue and under_way < self.concurrency and not connection.stopped:
                pause = max(0.0, self._next_start - time.monotonic()) or None
                if pause:
                    break
                if not should_continue():
                    queue.clear()
                    break
                interval = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
                self._next_start = time.monotonic() + interval
                connection.start(partial(self._ask, connection, queue.popleft(), results))
                under_way += 1
            if not under_way and not pause:
                return
            try:
                result = results.get(timeout=pause)
            except Empty:
                continue
            if result is None:
                raise RuntimeError("a request ended in an error that nobody expected; it is shown above")
            under_way -= 1
            yield result

    def _ask(self, connection: ServerConnection, ask: GenerationRequest, results: SimpleQueue[Outcome | None]) -> None:
        """Send one request, in a thread; always put an outcome, since the consumer waits for it."""
        result = None
        try:
            result = self._request(connection, ask)
        finally:
            results.put(result)

    def _request(self, connection: ServerConnection, ask: GenerationRequest) -> Outcome:
        from openai import APIStatusError, APITimeoutError, OpenAIError

        draw = int.from_bytes(sha256(f"{self.seed}/{ask.fact.id}/{ask.attempt}".encode()).digest()[:4], "big")
        messages: Any = self._prompt.messages(ask, context=self._context)
        fields = {"seed": draw & 0x7FFFFFFF, **self._draw}
        options = {name: value for name, value in fields.items() if name not in self._extra}
        extra = {name: value for name, value in self._extra.items() if value is not None}
        try:
            raw = connection.client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, extra_body=extra, **options
            )
        except APIStatusError as error:
            if error.status_code in REFUSALS:
                why = connection.reason(error)
                return GenerationResponse(
                    fact=ask.fact.id, attempt=ask.attempt, text="", requests=connection.sent, refused=why
                )
            return Failure(self._status_failure(connection, error))
        except APITimeoutError:
            if connection.timed_out:
                return self._timed_out(connection)
            return Failure(
                f"{self.base_url} gave no reply within {self.timeout:g} seconds{_attempts_text(connection.sent)}; "
                f"raise inversion.timeout or lower inversion.concurrency={self.concurrency}"
            )
        except OpenAIError as error:
            if connection.unusable:
                return self._refusal(connection, ask, connection.unusable)
            if connection.timed_out:
                return self._timed_out(connection)
            return Failure(
                f"the line to {self.base_url} broke ({connection.reason(error)}){_attempts_text(connection.sent)}; see "
                f"whether the server still runs, or raise inversion.retries={self.retries}"
            )
        body = text_of(raw.http_response)
        result = parse_completion(body)
        if result is None:
            reason = connection.redacted_for_display(error_text(body)) or "nothing that a program reads"
            return Failure(f"{self.base_url} sent something else than a chat completion: {reason}; {self._version()}")
        if "refused" in result:
            return self._refusal(connection, ask, result["refused"])
        result["text"] = connection.redacted(result["text"])
        return GenerationResponse(fact=ask.fact.id, attempt=ask.attempt, requests=connection.sent, **result)

    def _timed_out(self, connection: ServerConnection) -> Failure:
        return Failure(
            f"{self.base_url} gave no whole reply within {self.deadline:g} seconds{_attempts_text(connection.sent)}; "
            f"raise inversion.deadline or lower inversion.max_new_tokens={self._draw['max_tokens']}"
        )

    @staticmethod
    def _refusal(connection: ServerConnection, ask: GenerationRequest, why: str) -> GenerationResponse:
        """Empty response for a request whose response is unusable."""
        shown = connection.redacted_for_display(why)
        return GenerationResponse(
            fact=ask.fact.id, attempt=ask.attempt, text="", requests=connection.sent, refused=shown
        )

    def _status_failure(self, connection: ServerConnection, error: Any) -> str:
        status, why = error.status_code, connection.reason(error)
        if status in KEYS:
            return self._key_failure(connection, why)
        if status == 404:
            return self._model_not_found(connection, why)
        if 300 <= status < 400:
            place = connection.redacted_for_display(error.response.headers.get("location", "elsewhere"))
            return f"inversion.base_url={self.base_url} sends on to {place} ({why}); give the address that it means"
        answers = f"{self.base_url} answers {why}{_attempts_text(connection.sent)}"
        if status == 429:
            limit = self.requests_per_minute
            rate = "set inversion.requests_per_minute" if limit is None else f"inversion.requests_per_minute={limit}"
            return f"{answers}; lower inversion.concurrency={self.concurrency} or {rate}"
        if status in (408, 409) or status >= 500:
            return f"{answers}; see what the server's own log says, or raise inversion.retries={self.retries}"
        return f"{answers}; see whether inversion.base_url and the other options of inversion suit it"

    def _key_failure(self, connection: ServerConnection, why: str) -> str:
        if connection.with_key:
            advice = f"put a key that it takes into the environment variable {self.key_env}"
        elif self.key_env:
            advice = f"no key was sent: set the environment variable {self.key_env}"
        else:
            advice = "no key was sent: put one into an environment variable and set inversion.key_env to its name"
        return f"{self.base_url} does not let us in ({why}); {advice}"

    def _model_not_found(self, connection: ServerConnection, why: str) -> str:
        models = connection.models()
        if not models or self.model in models:
            return f"{self.base_url} has no chat completions ({why}); {self._version()}"
        near = nearest(self.model, models)
        named = connection.redacted_for_display(", ".join(models[:NAMED])) + (" …" if len(models) > NAMED else "")
        expected = f"one of those that {self.base_url} serves: {named}"
        return str(
            invalid_option(
                "inversion.model", self.model, expected, did_you_mean=near and connection.redacted_for_display(near)
            )
        )

    def _version(self) -> str:
        if urlsplit(self.base_url).path.strip("/"):
            return f"see whether inversion.base_url={self.base_url} is the whole address"
        return f"such servers mostly end in /v1: set inversion.base_url={self.base_url}/v1"

    def _all_refused(self, refusals: Sequence[GenerationResponse]) -> str:
        return (
            f"{self.base_url} refused each of the first {len(refusals)} questions ({refusals[0].refused}); see whether "
            f"inversion.model={self.model} and the other options of inversion suit it"
        )


def _check_number(name: str, given: object, *, at_least: float, above: float, at_most: float) -> None:
    number = isinstance(given, (int, float)) and not isinstance(given, bool) and math.isfinite(given)
    if number and given >= at_least and given > above and given <= at_most:  # type: ignore[operator]
        return
    low = f"above {above:g}" if math.isfinite(above) else f"from {at_least:g}"
    raise UserError(
        f"inversion.{name}={given} is not allowed; give a number {low}"
        + (f" to {at_most:g}" if math.isfinite(at_most) else "")
    )


def _attempts_text(sent: int) -> str:
    return f", asked {sent} times" if sent > 1 else ""
