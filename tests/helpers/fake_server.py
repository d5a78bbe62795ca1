"""A scripted chat-completions server on this machine that records its requests."""

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
    """One received request; ``time`` is from the monotonic clock, header names are in lower case."""

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
        """The fact's question if the message contains it as our prompt does, else the whole last message."""
        said = self.messages[-1]["content"]
        found = re.search(r"^Question: (.*)$", said, re.MULTILINE)
        return found[1] if found else said


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """The server's behaviour for one request.

    ``body`` is sent as is if it is text, else as JSON, after ``delay`` seconds. ``half`` announces the whole body,
    sends half of it and closes the connection; ``drop`` closes it without a response. ``pieces`` are sent one by
    one instead of a body, ``pause`` seconds before each, until they are exhausted or the client disconnects; with
    ``bare``, no status line and headers are sent before them.
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
    """Build a chat completion with this text."""
    body: dict[str, Any] = {
        "id": "chat-1", "object": "chat.completion", "created": 0, "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }  # fmt: skip
    if used is not None:
        body["usage"] = {"prompt_tokens": used[0], "completion_tokens": used[1], "total_tokens": sum(used)}
    return Behaviour(body=body, delay=delay, half=half)


def fails(status: int, message: str = "no", **headers: str) -> Behaviour:
    """Build an error response after which the client retries soon; ``retry_after`` is a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Behaviour(
        status=status,
        body={"error": {"message": message, "type": "scripted", "code": None}},
        headers={"retry-after-ms": "1", **named},
    )


def answering(texts: Callable[[str], str]) -> Callable[[Request], Behaviour]:
    """Build a script that answers each question with the text of a function."""
    return lambda request: says(texts(request.question))


class Scripted:
    """The server; a context manager.

    Args:
        script: Behaviour for completion requests: a function of the request, or a list in order of arrival, whose last
            entry is repeated; a text means a completion with that text.
        models: Response to ``GET /models``: names of models, or any other behaviour.
        path: Prefix of all paths.
    """

    def __init__(self, script: Script, *, models: Sequence[str] | Behaviour = ("m",), path: str = "/v1") -> None:
        self.script, self.models, self.path = script, models, path
        self.requests: list[Request] = []
        self.most = 0  # highest number of concurrent completions
        self.written = 0  # bytes of pieces sent
        self._now = 0
        self._lock, self._closing = threading.Lock(), threading.Event()

    @property
    def asked(self) -> list[Request]:
        """The completion requests received so far."""
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
        """Wait for the server to close; return whether it did within some seconds."""
        return self._closing.wait(seconds)

    def await_asked(self, count: int) -> bool:
        """Wait for ``count`` completion requests, for scripts that order them; return whether they arrived."""
        end = time.monotonic() + 5
        while len(self.asked) < count and time.monotonic() < end:
            time.sleep(0.005)
        return len(self.asked) >= count

    def behave(self, request: Request) -> Behaviour:
        """Record a request and select the behaviour for it."""
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
        """Answer one request, counting concurrent ones."""
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
    protocol_version = "HTTP/1.1"  # keep-alive, as with real servers
    owner: Scripted

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *unused: object) -> None:
        """Log nothing: tests read ``requests``."""

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
        except OSError:  # the client disconnected, as after a time-out
            self.close_connection = True

    def _send_pieces(self, behaviour: Behaviour) -> None:
        """Send an endless or very slow body; closing the connection ends it."""
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
        except OSError:  # the client disconnected
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
    """Build a writer that uses this server, or the one at a URL."""
    address = server if isinstance(server, str) else server.base_url
    return Endpoint(**{"base_url": address, **OPTIONS, **changes})


def ask(number: int, **changes: Any) -> GenerationRequest:
    """Build the generation request of a fact such as "Who is 7? It is 7."."""
    fact = Fact(id=f"f{number}", question=f"Who is {number}?", answer=f"It is {number}.")
    return GenerationRequest(
        **{"fact": fact, "attempt": 0, "count": 4, "previous_answers": (), "model_answer": None, **changes}
    )


def asks(count: int) -> list[GenerationRequest]:
    """Build the first ``count`` such requests."""
    return [ask(number) for number in range(count)]


def write(
    writer: Endpoint, questions: Sequence[GenerationRequest], should_continue: Callable[[], bool] = lambda: True
) -> list[GenerationResponse]:
    """Return all replies, in the order of the facts."""
    return sorted(
        writer.write(questions, load_facts=list, should_continue=should_continue), key=lambda reply: reply.fact
    )


def failure(writer: Endpoint, questions: Sequence[GenerationRequest]) -> tuple[str, list[GenerationResponse]]:
    """Return the error line that a stage ends with, and the replies received before."""
    came = []
    with pytest.raises(UserError) as error:
        for reply in writer.write(questions, load_facts=list, should_continue=lambda: True):
            came.append(reply)
    assert "\n" not in str(error.value)
    return str(error.value), came
