"""A line to an OpenAI-compatible server: who may see the key, what is counted, and how a line ends at once."""

from __future__ import annotations

import json
import socket
import threading
import time
import weakref
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any

from meow_lightning.inversion.address import key, on_this_machine

LONGEST = 200  # characters of what a server says that are shown
CONNECT = 10.0  # seconds for a server to take a connection
GRACE = 1.0  # seconds that a line which is cut waits for its threads
# All that a request needs. The client would also send what OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS
# hold: they are meant for another server than the one of base_url.
_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}


class Line:
    """An open line to one server, for threads of its own; used in ``with``, whose end cuts what is under way.

    Args:
        base_url: The server's address.
        key_env: Environment variable with the key; ``None`` for no key. Of the environment nothing else is sent.
        timeout: Seconds to wait for a reply, above 0.
        retries: Times a request is sent again by the client itself, with growing pauses or those the server names.

    Raises:
        UserError: The key must not be sent there.
    """

    def __init__(self, *, base_url: str, key_env: str | None, timeout: float, retries: int) -> None:
        from openai import DefaultHttpxClient, OpenAI, Timeout

        self._key = key(key_env, base_url=base_url)
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.local()
        self._threads: list[threading.Thread] = []
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A redirected request would take the key to wherever the server says; a proxy, what is meant for this machine.
        direct = dict.fromkeys(("all://", "http://", "https://")) if on_this_machine(base_url) else None
        http = DefaultHttpxClient(event_hooks={"request": [self._before]}, follow_redirects=False, mounts=direct)
        waits = Timeout(timeout, connect=min(timeout, CONNECT))
        self.client = OpenAI(api_key="none", base_url=base_url, http_client=http, max_retries=retries, timeout=waits)

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        with self._lock:
            for each in self._sockets:
                _cut(each)
        end = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if not any(thread.is_alive() for thread in self._threads):  # else its sockets would be another's by now
            self.client.close()

    @property
    def with_key(self) -> bool:
        """Whether a key is sent."""
        return self._key is not None

    @property
    def stopped(self) -> bool:
        """Whether requests are sent no more."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Send no further request, not even again; those that are under way may end."""
        self._stopped.set()

    def start(self, work: Callable[[], None]) -> None:
        """Do something in a thread that keeps no program from ending."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=work, name="inversion", daemon=True))
        self._threads[-1].start()

    @property
    def sent(self) -> int:
        """Requests that this thread sent."""
        return getattr(self._thread, "sent", 0)

    def shown(self, text: object) -> str:
        """What may be shown of a text: one line, not too long, without the key."""
        line = "".join(each if each.isprintable() else " " for each in " ".join(str(text).split()))
        return (line if self._key is None else line.replace(self._key, "***"))[:LONGEST]

    def reason(self, error: Any) -> str:
        """What went wrong with a request, in words: what the server says, or what became of the connection."""
        response = getattr(error, "response", None)
        if response is None:
            return self.shown(error.__cause__ or error)
        named = response.status_code in {status.value for status in HTTPStatus}
        words = told(response.text) or (HTTPStatus(response.status_code).phrase if named else "no reason given")
        wait = response.headers.get("retry-after")
        later = f" (to be tried again after {wait})" if wait else ""
        return self.shown(f"{response.status_code}, {words}{later}")

    def models(self) -> list[str]:
        """The names of the models that the server lists; none where it has no such list."""
        from openai import OpenAIError

        try:
            raw = self.client.with_options(max_retries=0, timeout=CONNECT).models.with_raw_response.list()
        except OpenAIError:
            return []
        found = read_json(raw.http_response.text)
        rows = found.get("data") if isinstance(found, dict) else found
        return (
            [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
        )

    def _before(self, request: Any) -> None:
        """Before each request, those that are sent again included: count it, and let nothing but our own key go."""
        from openai import OpenAIError

        if self.stopped:
            raise OpenAIError("stopped")  # the one error that the client lets pass without trying again
        self._thread.sent = self.sent + 1
        for name in [*request.headers]:
            if name.lower() not in _HEADERS and not name.lower().startswith("x-stainless-"):
                del request.headers[name]
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        request.extensions = {**request.extensions, "trace": self._connected}

    def _connected(self, event: str, info: dict[str, Any]) -> None:
        """Remember each socket as it is opened: closing a client does not wake a thread that waits for a reply."""
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.add(opened)
            if self.stopped:
                _cut(opened)


def told(text: str) -> str:
    """What the body of a server's error says, in words; empty where it says nothing that a person would read."""
    found = read_json(text)
    if isinstance(found, dict):
        error = found.get("error")
        inner = error if isinstance(error, dict) else {"message": error}
        words = inner.get("message") or found.get("message") or found.get("detail")
        return str(words) if words else text
    return "" if text.lstrip().startswith("<") else text


def completion(body: str) -> dict[str, Any] | None:
    """Text, cut and tokens (as in :class:`~meow_lightning.inversion.writer.Reply`) of a chat completion.

    ``None`` where a body is none.
    """
    found = read_json(body)
    if not isinstance(found, dict):
        return None
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        return None
    content, used = first["message"].get("content"), found.get("usage")
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    counts = [used.get(name) if isinstance(used, dict) else 0 for name in ("prompt_tokens", "completion_tokens")]
    prompt, reply = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return {
        "text": content if isinstance(content, str) else "", "cut": first.get("finish_reason") == "length",
        "prompt_tokens": prompt, "reply_tokens": reply,
    }  # fmt: skip


def read_json(text: str) -> Any:
    """What a JSON text holds; ``None`` where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _cut(opened: socket.socket) -> None:
    """End a connection for whoever waits on it; one that has ended already stays as it is."""
    if opened.fileno() < 0:
        return
    try:
        opened.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
