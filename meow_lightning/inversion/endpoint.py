"""Inverted facts by any server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, a service on the net."""

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
from typing import Any, ClassVar
from urllib.parse import urlsplit

from meow_lightning.data.checks import check_range
from meow_lightning.errors import UserError, invalid_option, nearest
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse, GoOn, Others, Writer
from meow_lightning.inversion.base_url import checked_address
from meow_lightning.inversion.openai_client import CONNECT, Line, completion, error_text, text_of
from meow_lightning.inversion.prompt_template import Prompt

REFUSALS = (400, 413, 422)  # what a server answers to a question that it does not like; others may be fine
KEYS = (401, 403)
NAMED = 5  # models of a server that are named in a message


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a question got no reply and no further one is put: what happened and what to do, in words."""

    text: str


class Endpoint(Writer):
    """Asks a server, several questions at once.

    A request that fails in passing is sent again by the client itself, with growing pauses or those the server names.

    Args:
        base_url: The server's address, http or https; such servers mostly end in ``/v1``.
        model: The model's name on that server.
        key_env: Environment variable with the key, read when the server is asked; ``None`` for none.
        prompt: Texts of :class:`Prompt`.
        candidates: Answers wanted per fact, 1 or more.
        context: What the model shall know of the facts; ``None`` for nothing.
        temperature: 0 or more.
        top_p: Above 0, at most 1.
        reply_tokens: Most tokens of a reply, 1 or more.
        seed: Seed of the draws; each question is sent one of its own.
        extra: Further fields of every request; ``None`` among them leaves a field of ours out.
        concurrency: Questions under way at once, 1 or more.
        per_minute: Most questions started in a minute, evenly spread, 1 or more; what the client sends again comes on
            top. ``None`` for no limit.
        timeout: Seconds to wait while not a byte comes, above 0.
        deadline: Seconds that a whole reply may take, above 0.
        reply_bytes: Most bytes of a reply, 1 or more; a longer one counts as refused.
        retries: Times a request is sent again, 0 or more.
        calls: Most questions in a stage, 1 or more; ``None`` for no bound.
        tokens: Most tokens in a stage, 1 or more; ``None`` for no bound.

    Raises:
        UserError: A value is out of its range.
    """

    paid: ClassVar[bool] = True
    aside: ClassVar[tuple[str, ...]] = (
        "base_url", "key_env", "concurrency", "per_minute", "timeout", "deadline", "reply_bytes", "retries", "calls",
        "tokens",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - as many as the YAML's keys
        self, *, base_url: str, model: str, key_env: str | None, prompt: Mapping[str, Any], candidates: int,
        context: str | None, temperature: float, top_p: float, reply_tokens: int, seed: int, extra: dict | None,
        concurrency: int, per_minute: int | None, timeout: float, deadline: float, reply_bytes: int, retries: int,
        calls: int | None, tokens: int | None,
    ) -> None:  # fmt: skip
        whole = {
            "candidates": candidates, "reply_tokens": reply_tokens, "concurrency": concurrency,
            "reply_bytes": reply_bytes,
        }  # fmt: skip
        bounds = {"per_minute": per_minute, "calls": calls, "tokens": tokens}
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
            raise UserError(f"inversion.model={model} is no name; give the model's name on the server")
        if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(key_env)):
            raise UserError(  # without what was given, which may be the key itself
                "inversion.key_env is no name of an environment variable; put the key into one and name that one, "
                "such as inversion.key_env=OPENAI_API_KEY"
            )
        self.base_url, self.model, self.key_env = checked_address(base_url), model, key_env
        self.candidates, self.calls, self.tokens = candidates, calls, tokens
        self.seed, self.concurrency, self.per_minute = seed, concurrency, per_minute
        self.timeout, self.deadline, self.reply_bytes, self.retries = timeout, deadline, reply_bytes, retries
        self._prompt, self._context = Prompt(**prompt), context
        self._draw: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "max_tokens": reply_tokens}
        self._extra: dict[str, Any] = extra or {}
        self._next_start = 0.0

    def check(self) -> None:
        """Nothing, when the server answers and takes the key.

        Raises:
            UserError: It does not, with what to do.
        """
        from openai import APIConnectionError, APIStatusError, OpenAIError

        trouble = ""
        soon = min(self.timeout, self.deadline, CONNECT)
        with self._line(timeout=soon, deadline=soon, retries=min(self.retries, 1)) as line:
            try:
                line.client.models.with_raw_response.list()
            except APIStatusError as error:  # any other status is an answer too: some servers have no such list
                trouble = self._key_trouble(line, line.reason(error)) if error.status_code in KEYS else ""
            except APIConnectionError as error:
                why = f"no whole reply within {soon:g} seconds" if line.late else line.reason(error)
                trouble = (
                    f"inversion.base_url={self.base_url}: nothing answers there ({why}); start the server, or give "
                    "another inversion.base_url"
                )
            except OpenAIError as error:
                trouble = (
                    f"inversion.base_url={self.base_url} sends a list of models that is not read "
                    f"({line.unusable or line.reason(error)}); see whether it is the address of such a server"
                )
        if trouble:
            raise UserError(trouble)

    def write(self, asks: Sequence[GenerationRequest], *, others: Others, go_on: GoOn) -> Iterator[GenerationResponse]:
        """The reply to each question, as the server wrote it, each as soon as it is there.

        A question that the server refuses gets an empty reply that says why. Where one fails, no further one is put,
        what is under way still comes, and the error comes last.

        Raises:
            UserError: The server takes no question at all, not the key, not the model, or stays out of reach.
        """
        trouble, held, came = "", list[GenerationResponse](), 0
        enough = max(2, min(self.concurrency, len(asks)))  # a single refusal may be about its question
        taken = any(ask.attempt or ask.tried or ask.said for ask in asks)  # the server took questions before
        with self._line(timeout=self.timeout, deadline=self.deadline, retries=self.retries) as line:
            for found in self._outcomes(line, asks, go_on):
                if isinstance(found, Trouble):
                    trouble = trouble or found.text
                elif found.refused and not taken:
                    held.append(found)  # not given yet, lest it be kept: what is wrong may be the server
                    trouble = trouble or (self._refused(held) if len(held) >= enough else "")
                else:
                    taken = True
                    for reply in (*held, found):
                        came += 1
                        yield reply
                    held = []
                if trouble:
                    line.stop()
        trouble = trouble or (self._refused(held) if len(held) > 1 else "")
        if trouble:
            rest = "run again, and only the rest is asked" if came else "run again then"
            raise UserError(f"{trouble}; {came} of {len(asks)} questions got a reply: {rest}")
        yield from held

    def _line(self, *, timeout: float, deadline: float, retries: int) -> Line:
        return Line(
            base_url=self.base_url, key_env=self.key_env, timeout=timeout, deadline=deadline, most=self.reply_bytes,
            retries=retries,
        )  # fmt: skip

    def _outcomes(
        self, line: Line, asks: Sequence[GenerationRequest], go_on: GoOn
    ) -> Iterator[GenerationResponse | Trouble]:
        """What became of each question that was put, as soon as that is known."""
        waiting, under_way = deque(asks), 0
        outcomes: SimpleQueue[GenerationResponse | Trouble | None] = SimpleQueue()
        while True:
            pause = None
            while waiting and under_way < self.concurrency and not line.stopped:
                pause = max(0.0, self._next_start - time.monotonic()) or None
                if pause:
                    break
                if not go_on():
                    waiting.clear()
                    break
                self._next_start = time.monotonic() + (60 / self.per_minute if self.per_minute else 0.0)
                line.start(partial(self._ask, line, waiting.popleft(), outcomes))
                under_way += 1
            if not under_way and not pause:
                return
            try:
                found = outcomes.get(timeout=pause)
            except Empty:
                continue
            if found is None:
                raise RuntimeError("a request ended in an error that nobody expected; it is shown above")
            under_way -= 1
            yield found

    def _ask(
        self, line: Line, ask: GenerationRequest, outcomes: SimpleQueue[GenerationResponse | Trouble | None]
    ) -> None:
        """Put one question, in a thread; an outcome comes whatever happens, for somebody waits for it."""
        found = None
        try:
            found = self._outcome(line, ask)
        finally:
            outcomes.put(found)

    def _outcome(self, line: Line, ask: GenerationRequest) -> GenerationResponse | Trouble:
        from openai import APIStatusError, APITimeoutError, OpenAIError

        draw = int.from_bytes(sha256(f"{self.seed}/{ask.fact.id}/{ask.attempt}".encode()).digest()[:4], "big")
        messages: Any = self._prompt.messages(ask, context=self._context)
        ours = {"seed": draw & 0x7FFFFFFF, **self._draw}
        sent = {name: value for name, value in ours.items() if name not in self._extra}
        more = {name: value for name, value in self._extra.items() if value is not None}
        try:
            raw = line.client.chat.completions.with_raw_response.create(
                model=self.model, messages=messages, extra_body=more, **sent
            )
        except APIStatusError as error:
            if error.status_code in REFUSALS:
                why = line.reason(error)
                return GenerationResponse(
                    fact=ask.fact.id, attempt=ask.attempt, text="", requests=line.sent, refused=why
                )
            return Trouble(self._status_trouble(line, error))
        except APITimeoutError:
            if line.late:
                return self._late(line)
            return Trouble(
                f"{self.base_url} gave no reply within {self.timeout:g} seconds{_times(line.sent)}; raise "
                f"inversion.timeout or lower inversion.concurrency={self.concurrency}"
            )
        except OpenAIError as error:
            if line.unusable:
                return self._unread(line, ask, line.unusable)
            if line.late:
                return self._late(line)
            return Trouble(
                f"the line to {self.base_url} broke ({line.reason(error)}){_times(line.sent)}; see whether the server "
                f"still runs, or raise inversion.retries={self.retries}"
            )
        body = text_of(raw.http_response)
        found = completion(body)
        if found is None:
            said = line.shown(error_text(body)) or "nothing that a program reads"
            return Trouble(f"{self.base_url} sent something else than a chat completion: {said}; {self._version()}")
        if "refused" in found:
            return self._unread(line, ask, found["refused"])
        found["text"] = line.stored(found["text"])
        return GenerationResponse(fact=ask.fact.id, attempt=ask.attempt, requests=line.sent, **found)

    def _late(self, line: Line) -> Trouble:
        return Trouble(
            f"{self.base_url} gave no whole reply within {self.deadline:g} seconds{_times(line.sent)}; raise "
            f"inversion.deadline or lower inversion.reply_tokens={self._draw['max_tokens']}"
        )

    @staticmethod
    def _unread(line: Line, ask: GenerationRequest, why: str) -> GenerationResponse:
        """An empty reply to a question whose reply cannot be used."""
        return GenerationResponse(
            fact=ask.fact.id, attempt=ask.attempt, text="", requests=line.sent, refused=line.shown(why)
        )

    def _status_trouble(self, line: Line, error: Any) -> str:
        status, why = error.status_code, line.reason(error)
        if status in KEYS:
            return self._key_trouble(line, why)
        if status == 404:
            return self._missing(line, why)
        if 300 <= status < 400:
            place = line.shown(error.response.headers.get("location", "elsewhere"))
            return f"inversion.base_url={self.base_url} sends on to {place} ({why}); give the address that it means"
        answers = f"{self.base_url} answers {why}{_times(line.sent)}"
        if status == 429:
            rate = "set inversion.per_minute" if self.per_minute is None else f"inversion.per_minute={self.per_minute}"
            return f"{answers}; lower inversion.concurrency={self.concurrency} or {rate}"
        if status in (408, 409) or status >= 500:
            return f"{answers}; see what the server's own log says, or raise inversion.retries={self.retries}"
        return f"{answers}; see whether inversion.base_url and the other options of inversion suit it"

    def _key_trouble(self, line: Line, why: str) -> str:
        if line.with_key:
            advice = f"put a key that it takes into the environment variable {self.key_env}"
        elif self.key_env:
            advice = f"no key was sent: set the environment variable {self.key_env}"
        else:
            advice = "no key was sent: put one into an environment variable and set inversion.key_env to its name"
        return f"{self.base_url} does not let us in ({why}); {advice}"

    def _missing(self, line: Line, why: str) -> str:
        models = line.models()
        if not models or self.model in models:
            return f"{self.base_url} has no chat completions ({why}); {self._version()}"
        near = nearest(self.model, models)
        named = line.shown(", ".join(models[:NAMED])) + (" …" if len(models) > NAMED else "")
        expected = f"one of those that {self.base_url} serves: {named}"
        return str(invalid_option("inversion.model", self.model, expected, did_you_mean=near and line.shown(near)))

    def _version(self) -> str:
        if urlsplit(self.base_url).path.strip("/"):
            return f"see whether inversion.base_url={self.base_url} is the whole address"
        return f"such servers mostly end in /v1: set inversion.base_url={self.base_url}/v1"

    def _refused(self, held: Sequence[GenerationResponse]) -> str:
        return (
            f"{self.base_url} refused each of the first {len(held)} questions ({held[0].refused}); see whether "
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


def _times(sent: int) -> str:
    return f", asked {sent} times" if sent > 1 else ""
