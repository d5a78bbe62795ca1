"""Connection to an OpenAI-compatible server: key handling, limits on responses, and immediate cancellation."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from meow_lightning.inversion.api_key import Secret
from meow_lightning.inversion.base_url import api_key, is_local

Result = TypeVar("Result")

LONGEST = 200  # maximum characters of a server's message to display
MANY = 10**12  # implausible token count
CONNECT = 10.0  # connection timeout in seconds
GRACE = 1.0  # seconds to wait for cancelled requests
# The only headers sent. The client would also send the values of OPENAI_ORG_ID, OPENAI_PROJECT_ID and
# OPENAI_CUSTOM_HEADERS, which are meant for a server other than base_url.
_HEADERS = {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}


@dataclass(slots=True)
class _Attempts:
    """The tries of one request.

    Attributes:
        sent: Number of tries sent.
        timed_out: Whether the last one missed its deadline.
        unusable: Reason why the last response was not read; empty if it was.
    """

    sent: int = 0
    timed_out: bool = False
    unusable: str = ""


_ATTEMPTS: ContextVar[_Attempts] = ContextVar("_ATTEMPTS")  # of the current task


class ServerConnection:
    """Connection to one server; a context manager that cancels pending requests on exit.

    Requests are coroutines in the event loop of a thread: a pause of the caller neither delays responses nor counts
    toward their deadlines, and the caller may have an event loop of its own, as notebooks do.

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
        from openai import AsyncOpenAI, Timeout

        self._key = api_key(key_env, base_url=base_url)
        self._secret = None if self._key is None else Secret(self._key)
        self._deadline, self._max_bytes, self._stopped = deadline, max_bytes, False
        # A redirect would send the key to another server; a proxy would see requests meant for this machine.
        direct = dict.fromkeys(("all://", "http://", "https://")) if is_local(base_url) else None
        self.client = AsyncOpenAI(
            api_key="none", base_url=base_url, max_retries=retries,
            timeout=Timeout(timeout, connect=min(timeout, CONNECT)),
            http_client=_http_client(self._send, follow_redirects=False, mounts=direct),
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="inversion", daemon=True)

    def __enter__(self) -> ServerConnection:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(GRACE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GRACE)
        if not self._thread.is_alive():
            self._loop.close()

    @property
    def with_key(self) -> bool:
        """Whether requests carry a key."""
        return self._key is not None

    @property
    def stopped(self) -> bool:
        """Whether sending has been stopped."""
        return self._stopped

    def stop(self) -> None:
        """Stop sending requests and retries; pending ones may finish."""
        self._stopped = True

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Start a coroutine that sends one request; its result can be awaited in any thread."""

        async def counted() -> Result:
            _ATTEMPTS.set(_Attempts())
            return await work

        return asyncio.run_coroutine_threadsafe(counted(), self._loop)

    @property
    def sent(self) -> int:
        """Number of tries of the current coroutine's request."""
        return _ATTEMPTS.get().sent

    @property
    def timed_out(self) -> bool:
        """Whether the last response to the current coroutine missed its deadline."""
        return _ATTEMPTS.get().timed_out

    @property
    def unusable(self) -> str:
        """Reason why the last response to the current coroutine was not read; empty if it was."""
        return _ATTEMPTS.get().unusable

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

    async def models(self) -> list[str]:
        """List the names of the models that the server lists; empty if it has no model list."""
        from openai import OpenAIError

        try:
            raw = await self.client.with_options(max_retries=0, timeout=CONNECT).models.with_raw_response.list()
        except OpenAIError:
            return []
        content = read_json(text_of(raw.http_response))
        rows = content.get("data") if isinstance(content, dict) else content
        return (
            [str(row["id"]) for row in rows if isinstance(row, dict) and "id" in row] if isinstance(rows, list) else []
        )

    async def _close(self) -> None:
        """Cancel all requests, which closes their connections, and close the client."""
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.client.close()

    async def _send(self, send: Callable[[], Awaitable[Any]], request: Any) -> Any:
        """Send one try of a request, with no credentials except our key, and read its response within the limits."""
        from openai import OpenAIError

        if self.stopped:
            raise OpenAIError("stopped")  # the only error that the client does not retry
        attempts = _ATTEMPTS.get()
        attempts.sent, attempts.timed_out, attempts.unusable = attempts.sent + 1, False, ""
        for name in [*request.headers]:
            if name.lower() not in _HEADERS and not name.lower().startswith("x-stainless-"):
                del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"  # a compressed response could expand to gigabytes
        request.headers["Connection"] = "close"  # a server may close an idle connection just when it is used again
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        limit = asyncio.timeout(self._deadline)
        try:
            async with limit:
                response = await send()
                await self._read(response)
        except TimeoutError as error:
            if not limit.expired():
                raise
            attempts.timed_out = True
            library = sys.modules[type(request).__module__.partition(".")[0]]  # httpx, as imported by openai
            raise library.ReadTimeout(
                f"no complete reply within {self._deadline:g} seconds", request=request
            ) from error
        return response

    async def _read(self, response: Any) -> None:
        """Read the body of a response, before the client does."""
        try:
            body = await self._body(response)
        finally:
            await response.stream.aclose()
        response.stream = type(response)(200, content=body).stream
        response.encoding = "utf-8"  # JSON is UTF-8; a server could declare a very slow codec
        await response.aread()

    async def _body(self, response: Any) -> bytes:
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            if response.status_code < 400:
                self._refuse(f"the reply is compressed ({encoding}) although the request forbids it")
            del response.headers["content-encoding"]
            return b""  # the status is sufficient
        body = bytearray()
        async for piece in response.stream:
            body += piece
            if len(body) > self._max_bytes:
                self._refuse(f"the reply exceeds inversion.reply_bytes={self._max_bytes} bytes")
        return bytes(body)

    def _refuse(self, why: str) -> NoReturn:
        from openai import OpenAIError

        _ATTEMPTS.get().unusable = self.redacted_for_display(why)
        raise OpenAIError(why)  # the client does not retry it


def _http_client(send: Callable[[Callable[[], Awaitable[Any]], Any], Awaitable[Any]], **options: Any) -> Any:
    """Build openai's HTTP client, with every try of a request sent through ``send``.

    Args:
        send: Called with a function that returns the response with an unread body, and the request.
        options: Further arguments of the client.
    """
    from openai import DefaultAsyncHttpxClient

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: Any, **how: Any) -> Any:
            return await send(lambda: super(Client, self).send(request, **{**how, "stream": True}), request)

    return Client(**options)


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
