"""Connection to an OpenAI-compatible server: key handling, limits on responses, and immediate cancellation."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, NoReturn

from meow_lightning.inversion.api_key import Secret
from meow_lightning.inversion.base_url import api_key, is_local

LONGEST = 200  # maximum characters of a server's message to display
MANY = 10**12  # implausible token count
CONNECT = 10.0  # connection timeout in seconds
GRACE = 1.0  # seconds to wait for threads after cutting their connections
# The only headers sent. The client would also send the values of OPENAI_ORG_ID, OPENAI_PROJECT_ID and
# OPENAI_CUSTOM_HEADERS, which are meant for a server other than base_url.
_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}


class ServerConnection:
    """Connection to one server with its own threads; a context manager that cancels pending requests on exit.

    Args:
        base_url: The server's URL.
        key_env: Environment variable with the API key; ``None`` for no key. Nothing else of the environment is sent.
        timeout: Seconds to wait without receiving a byte, above 0.
        deadline: Seconds allowed for a whole response, above 0, for each try of a request.
        max_bytes: Size limit of a response in bytes, from 1.
        retries: Retries of a request by the client, with exponential backoff or the delay that the server requests.

    Raises:
        UserError: The key is invalid or must not be sent to this server.
    """

    def __init__(
        self, *, base_url: str, key_env: str | None, timeout: float, deadline: float, max_bytes: int, retries: int
    ) -> None:
        from openai import DefaultHttpxClient, OpenAI, Timeout

        self._key = api_key(key_env, base_url=base_url)
        self._secret = None if self._key is None else Secret(self._key)
        self._deadline, self._max_bytes = deadline, max_bytes
        self._deadlines: weakref.WeakSet[_Deadline] = weakref.WeakSet()
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.local()
        self._threads: list[threading.Thread] = []
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A redirect would send the key to another server; a proxy would see requests meant for this machine.
        direct = dict.fromkeys(("all://", "http://", "https://")) if is_local(base_url) else None
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._before], "response": [self._read]}
        http = DefaultHttpxClient(event_hooks=hooks, follow_redirects=False, mounts=direct)
        waits = Timeout(timeout, connect=min(timeout, CONNECT))
        self.client = OpenAI(api_key="none", base_url=base_url, http_client=http, max_retries=retries, timeout=waits)

    def __enter__(self) -> ServerConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        with self._lock:
            for each in self._sockets:
                _cut(each)
            for deadline_timer in self._deadlines:
                deadline_timer.stop()
        end = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):  # else a closed socket's descriptor could be reused
            self.client.close()

    @property
    def with_key(self) -> bool:
        """Whether requests carry a key."""
        return self._key is not None

    @property
    def stopped(self) -> bool:
        """Whether sending has been stopped."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Stop sending requests and retries; pending ones may finish."""
        self._stopped.set()

    def start(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a daemon thread."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=work, name="inversion", daemon=True))
        self._threads[-1].start()

    @property
    def sent(self) -> int:
        """Number of requests sent by this thread."""
        return getattr(self._thread, "sent", 0)

    @property
    def timed_out(self) -> bool:
        """Whether the last response to this thread missed its deadline."""
        deadline_timer = getattr(self._thread, "deadline_timer", None)
        return deadline_timer is not None and deadline_timer.expired

    @property
    def unusable(self) -> str:
        """Reason why the last response to this thread was not read; empty if it was."""
        return getattr(self._thread, "unusable", "")

    def redacted_for_display(self, text: object) -> str:
        """Shorten a text to one line for display, without the key."""
        masked = str(text) if self._secret is None else self._secret.redacted_for_display(str(text))
        return "".join(each if each.isprintable() else " " for each in " ".join(masked.split()))[:LONGEST]

    def redacted(self, text: str) -> str:
        """Redact the key from a text for storage."""
        return text if self._secret is None else self._secret.redacted(text)

    def reason(self, error: Any) -> str:
        """Describe a failed request: the server's message, or the connection error."""
        response = getattr(error, "response", None)
        if response is None:
            return self.redacted_for_display(error.__cause__ or error)
        named = response.status_code in {status.value for status in HTTPStatus}
        words = error_text(text_of(response)) or (
            HTTPStatus(response.status_code).phrase if named else "no reason given"
        )
        wait = response.headers.get("retry-after")
        later = f" (retry after {wait})" if wait else ""
        return self.redacted_for_display(f"{response.status_code}, {words}{later}")

    def models(self) -> list[str]:
        """List the names of the models that the server lists; empty if it has no model list."""
        from openai import OpenAIError

        try:
            raw = self.client.with_options(max_retries=0, timeout=CONNECT).models.with_raw_response.list()
        except OpenAIError:
            return []
        found = read_json(text_of(raw.http_response))
        rows = found.get("data") if isinstance(found, dict) else found
        return (
            [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
        )

    def _before(self, request: Any) -> None:
        """Request hook, also for retries: count the request and allow no credentials except our key."""
        from openai import OpenAIError

        if self.stopped:
            raise OpenAIError("stopped")  # the only error that the client does not retry
        self._thread.sent = self.sent + 1
        self._time()
        for name in [*request.headers]:
            if name.lower() not in _HEADERS and not name.lower().startswith("x-stainless-"):
                del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"  # a compressed response could expand to gigabytes
        request.headers["Connection"] = "close"  # a separate socket per request, which can be cut
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        request.extensions = {**request.extensions, "trace": self._connected}

    def _connected(self, event: str, info: dict[str, Any]) -> None:
        """Track each socket as it opens: closing the client does not wake a thread waiting for a response."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.add(opened)
            if self.stopped:
                _cut(opened)
        self._thread.deadline_timer.watch(opened)

    def _time(self) -> None:
        """Start the deadline of this thread's response."""
        if (before := getattr(self._thread, "deadline_timer", None)) is not None:
            before.stop()
        self._thread.deadline_timer, self._thread.unusable = _Deadline(self._deadline), ""
        with self._lock:
            self._deadlines.add(self._thread.deadline_timer)

    def _read(self, response: Any) -> None:
        """Read the body of a response within the limits, before the client does."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if response.status_code < 400:
                self._refuse(f"the reply is compressed ({encoding}) although the request forbids it")
            body = b""  # the status is sufficient
            del response.headers["content-encoding"]
        else:
            body = self._body(response)
        deadline_timer = self._thread.deadline_timer
        deadline_timer.stop()
        if deadline_timer.expired:  # without a length, a truncated body looks complete
            library = sys.modules[type(response).__module__.partition(".")[0]]  # httpx, as imported by openai
            raise library.ReadTimeout(f"no complete reply within {self._deadline:g} seconds", request=response.request)
        response.stream.close()
        response.stream = type(response)(200, content=body).stream
        response.encoding = "utf-8"  # JSON is UTF-8; a server could declare a very slow codec

    def _body(self, response: Any) -> bytes:
        found = bytearray()
        for piece in response.stream:
            found += piece
            if len(found) > self._max_bytes:
                self._refuse(f"the reply exceeds inversion.reply_bytes={self._max_bytes} bytes")
        return bytes(found)

    def _refuse(self, why: str) -> NoReturn:
        from openai import OpenAIError

        self._thread.unusable = self.redacted_for_display(why)
        self._thread.deadline_timer.stop()
        raise OpenAIError(why)  # the client does not retry it


class _Deadline:
    """Timer that cuts the connections of one request at its deadline.

    Args:
        seconds: Seconds from now, above 0.

    Attributes:
        expired: Whether the deadline passed before :meth:`stop`.
    """

    def __init__(self, seconds: float) -> None:
        self.expired, self._lock = False, threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._over)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, opened: socket.socket) -> None:
        """Cut this connection at the deadline too."""
        with self._lock:
            self._sockets.append(opened)
            if self.expired:
                _cut(opened)

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    def _over(self) -> None:
        with self._lock:
            self.expired = True
            for each in self._sockets:
                _cut(each)


def error_text(text: str) -> str:
    """Extract the readable message from the body of an error response; empty if it has none."""
    found = read_json(text)
    if isinstance(found, dict):
        error = found.get("error")
        inner = error if isinstance(error, dict) else {"message": error}
        words = inner.get("message") or found.get("message") or found.get("detail")
        return str(words) if words else text
    return "" if text.lstrip().startswith("<") else text


def parse_completion(body: str) -> dict[str, Any] | None:
    """Parse a chat completion into fields of :class:`~meow_lightning.inversion.base.GenerationResponse`.

    ``None`` if the body is not a chat completion. One that cannot be stored has an empty text and a reason in
    ``refused``.
    """
    try:
        found = json.loads(body)
    except ValueError:
        return None
    except RecursionError:
        return {"text": "", "refused": "the reply is nested too deeply to parse"}
    if not isinstance(found, dict):
        return None
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        return None
    content, used = first["message"].get("content"), found.get("usage")
    if isinstance(content, list):  # content parts, sent by some servers
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    counts = [used.get(name) if isinstance(used, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    prompt, reply = (count if isinstance(count, int) and 0 < count < MANY else 0 for count in counts)
    text = content if isinstance(content, str) else ""
    if not _encodes(text):
        return {
            "text": "",
            "refused": "the reply contains half a character (a lone surrogate), so it is not valid text",
        }
    return {
        "text": text, "cut": first.get("finish_reason") == "length",
        "prompt_tokens": prompt, "completion_tokens": reply,
    }  # fmt: skip


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(response: Any) -> str:
    """Decode the body of a response as UTF-8, whatever its headers declare."""
    return bytes(response.content).decode("utf-8", "replace")


def read_json(text: str) -> Any:
    """Parse a JSON text; ``None`` if it is invalid or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _cut(opened: socket.socket) -> None:
    """Shut down a connection and wake threads waiting on it; no effect on a closed one."""
    if opened.fileno() < 0:
        return
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
