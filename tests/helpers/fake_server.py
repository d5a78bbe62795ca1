"""A server of chat completions on this machine that does what it is told, and remembers what it was sent."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from meow_lightning.errors import UserError
from meow_lightning.inversion.base import GenerationRequest, GenerationResponse
from meow_lightning.inversion.endpoint import Endpoint
from meow_lightning.types import Fact


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came in; ``time`` is that of the monotonic clock, header names are in small letters."""

    time: float
    method: str
    path: str
    headers: dict[str, str]
    json: Any

    @property
    def messages(self) -> list[dict[str, str]]:
        return self.json["messages"]

    @property
    def question(self) -> str:
        """The fact's question where the message names it as our prompt does, else the whole last message."""
        said = self.messages[-1]["content"]
        found = re.search(r"^Question: (.*)$", said, re.MULTILINE)
        return found[1] if found else said


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the server does with one request.

    ``body`` is sent as it is where it is text, else as JSON. ``delay`` seconds pass before. ``half`` announces the
    whole body, sends half of it and hangs up; ``drop`` hangs up without a word. ``pieces`` are sent one by one in the
    place of a body, ``pause`` seconds before each, until there are no more or the client has gone; without a status
    line or headers of ours where they are ``bare``.
    """

    status: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    half: bool = False
    drop: bool = False
    pieces: Callable[[], Iterable[bytes]] | None = None
    pause: float = 0.0
    bare: bool = False


Script = Callable[[Request], "Behaviour | str"] | Sequence["Behaviour | str"]


def says(
    text: Any, *, finish: str = "stop", used: tuple[int, int] | None = (30, 12), delay: float = 0.0, half: bool = False
) -> Behaviour:
    """A chat completion with this text."""
    body: dict[str, Any] = {
        "id": "chat-1", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }  # fmt: skip
    if used is not None:
        body["usage"] = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
    return Behaviour(body=body, delay=delay, half=half)


def fails(status: int, message: str = "no", **headers: str) -> Behaviour:
    """An error as such servers word it; the client does not wait long to try again. ``retry_after`` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Behaviour(
        status=status,
        body={"error": {"message": message, "type": "scripted", "code": None}},
        headers={"retry-after-ms": "1", **named},
    )


def answering(texts: Callable[[str], str]) -> Callable[[Request], Behaviour]:
    """A script that answers each question with a text of its own."""
    return lambda request: says(texts(request.question))


class Scripted:
    """The server, open within ``with``.

    Args:
        script: What it does with each request for a completion: a function of the request, or a list in the order in
            which they come, whose last entry stays; a text stands for a completion with it.
        models: What ``GET /models`` does: names of models, or anything else.
        path: What the addresses begin with.
    """

    def __init__(self, script: Script, *, models: Sequence[str] | Behaviour = ("m",), path: str = "/v1") -> None:
        self.script, self.models, self.path = script, models, path
        self.requests: list[Request] = []
        self.most = 0  # completions under way at once
        self.written = 0  # bytes of pieces that were sent
        self._now = 0
        self._lock, self._closing = threading.Lock(), threading.Event()

    @property
    def asked(self) -> list[Request]:
        """The requests for a completion."""
        return [request for request in self.requests if request.method == "POST"]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.path}"

    def __enter__(self) -> Scripted:
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def closing(self, seconds: float) -> bool:
        """Whether the server is closed within some seconds."""
        return self._closing.wait(seconds)

    def await_asked(self, count: int) -> bool:
        """Wait until so many requests for a completion have come in; whether they have, for scripts that order them."""
        end = time.monotonic() + 5
        while len(self.asked) < count and time.monotonic() < end:
            time.sleep(0.005)
        return len(self.asked) >= count

    def behave(self, request: Request) -> Behaviour:
        """Note a request and decide what becomes of it."""
        with self._lock:
            self.requests.append(request)
            place = len(self.asked) - 1
        if request.path == f"{self.path}/models":
            found: Any = self.models
            if not isinstance(found, Behaviour):
                found = Behaviour(body={"object": "list", "data": [{"id": name, "object": "model"} for name in found]})
        elif request.path == f"{self.path}/chat/completions":
            found = self.script(request) if callable(self.script) else self.script[min(place, len(self.script) - 1)]
        else:
            found = fails(404, "no such page")
        return says(found) if isinstance(found, str) else found

    def serve(self, request: Request, send: Callable[[Behaviour], None]) -> None:
        """Answer one request, and count how many are under way."""
        counted = request.method == "POST"
        with self._lock:
            self._now += counted
            self.most = max(self.most, self._now)
        try:
            found = self.behave(request)
            self._closing.wait(found.delay)
        finally:
            with self._lock:
                self._now -= counted
        send(found)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open, as with real servers
    owner: Scripted

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *unused: object) -> None:
        """Nothing: tests look at ``requests``."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(
            time=time.monotonic(), method=self.command, path=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            json=json.loads(body) if body else None,
        )  # fmt: skip
        self.owner.serve(request, self._send)

    def _send(self, behaviour: Behaviour) -> None:
        if behaviour.drop:
            self.close_connection = True
            return
        if behaviour.pieces is not None:
            self._send_pieces(behaviour)
            return
        text = isinstance(behaviour.body, str)
        body = (behaviour.body if text else json.dumps(behaviour.body)).encode()
        kind = "text/html" if text else "application/json"
        lines = {"content-type": kind, "content-length": str(len(body)), **behaviour.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        shown = body[: len(body) // 2] if behaviour.half else body
        self.close_connection = self.close_connection or behaviour.half
        try:
            self.wfile.write(f"HTTP/1.1 {behaviour.status} scripted\r\n{head}\r\n".encode() + shown)
        except OSError:  # who asked has gone, as after a time-out
            self.close_connection = True

    def _send_pieces(self, behaviour: Behaviour) -> None:
        """Send what has no end, or takes for ever; the connection's end is that of the body."""
        self.close_connection = True
        lines = {"content-type": "application/json", "connection": "close", **behaviour.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            if not behaviour.bare:
                self.wfile.write(f"HTTP/1.1 {behaviour.status} scripted\r\n{head}\r\n".encode())
            for piece in behaviour.pieces():  # type: ignore[misc]
                if self.owner.closing(behaviour.pause):
                    return
                self.wfile.write(piece)
                self.owner.written += len(piece)
        except OSError:  # who asked has gone
            return


PROMPT = {
    "version": 1, "system": "Write {count}.", "user": "Question: {question}\nTrue answer: {answer}",
    "context": "About: {context}", "previous_answers": "Written: {previous_answers}",
    "model_answer": "It says: {model_answer}",
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "model": "m", "key_env": "MEOW_TEST_KEY", "prompt": PROMPT, "candidates": 4, "context": None, "temperature": 0.9,
    "top_p": 1.0, "max_new_tokens": 512, "seed": 0, "extra": None, "concurrency": 4, "requests_per_minute": None,
    "timeout": 5.0, "deadline": 20.0, "reply_bytes": 1_000_000, "retries": 2,
    "max_requests": None, "max_total_tokens": None,
}  # fmt: skip


def endpoint(server: Scripted | str, **changes: Any) -> Endpoint:
    """A writer that asks this server, or one at an address."""
    address = server if isinstance(server, str) else server.base_url
    return Endpoint(**{"base_url": address, **OPTIONS, **changes})


def ask(number: int, **changes: Any) -> GenerationRequest:
    """Who is 7? It is 7."""
    fact = Fact(id=f"f{number}", question=f"Who is {number}?", answer=f"It is {number}.")
    return GenerationRequest(
        **{"fact": fact, "attempt": 0, "count": 4, "previous_answers": (), "model_answer": None, **changes}
    )


def asks(count: int) -> list[GenerationRequest]:
    """The first so many of these."""
    return [ask(number) for number in range(count)]


def write(
    writer: Endpoint, questions: Sequence[GenerationRequest], should_continue: Callable[[], bool] = lambda: True
) -> list[GenerationResponse]:
    """All replies, in the order of the facts."""
    return sorted(
        writer.write(questions, load_facts=list, should_continue=should_continue), key=lambda reply: reply.fact
    )


def failure(writer: Endpoint, questions: Sequence[GenerationRequest]) -> tuple[str, list[GenerationResponse]]:
    """The one line that a stage ends with, and the replies that came before."""
    came = []
    with pytest.raises(UserError) as error:
        for reply in writer.write(questions, load_facts=list, should_continue=lambda: True):
            came.append(reply)
    assert "\n" not in str(error.value)
    return str(error.value), came
