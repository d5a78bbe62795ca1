"""A headless Chromium driven over two pipes (DevTools protocol), with the standard library alone: opens a page, runs
JavaScript in it, and takes pictures. For the browser tests and ``make screenshots``.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PROBLEMS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
SECONDS = 180.0  # longest wait for one answer of the browser


class Page:
    """One tab. Coordinates are CSS pixels.

    Attributes:
        problems: Messages on the console, exceptions, and what the content policy blocked, so far.
    """

    def __init__(self, reads: int, writes: int) -> None:
        self._reads, self._writes = reads, writes
        self._buffer, self._number, self._session = b"", 0, ""
        self._loaded = 0
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            RuntimeError: The browser reports an error.
            TimeoutError: It does not answer.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open a file with a window of a size and the reader's colour scheme, and wait until it has loaded."""
        # Not as a phone, which would show a page that is too wide smaller instead of letting it overflow.
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        loaded = self._loaded
        self.send("Page.navigate", url=path.resolve().as_uri())
        while self._loaded == loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """Evaluate JavaScript, wait for a promise if it returns one, and return its value as JSON.

        Raises:
            RuntimeError: It threw an exception.
        """
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", script))
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a picture (PNG) of the window, or of the whole page."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        """Wait for the next message, and keep what it says of problems."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reads], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._reads, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError("the browser does not answer")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._loaded += message.get("method") == "Page.loadEventFired"
        if message.get("method") in PROBLEMS:
            self.problems.append(json.dumps(message["params"]))
        return message


@contextmanager
def browser() -> Iterator[Page]:
    """Start a browser with a profile of its own, and end it afterwards.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    if CHROMIUM is None:
        raise FileNotFoundError("Chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        pipes = [*os.pipe(), *os.pipe()]
        # The browser reads from descriptor 3 and writes to 4; from above 9, copying to these overwrites no pipe.
        reads, writes = (fcntl.fcntl(pipes[end], fcntl.F_DUPFD_CLOEXEC, 10) for end in (0, 3))
        actions = [
            (os.POSIX_SPAWN_DUP2, reads, 3), (os.POSIX_SPAWN_DUP2, writes, 4),
            *((os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (1, 2)),
        ]  # fmt: skip
        process = os.posix_spawn(
            CHROMIUM,
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                "--disable-dev-shm-usage", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            ],
            os.environ, file_actions=actions, setpgroup=0,
        )  # fmt: skip
        for end in (reads, writes, pipes[0], pipes[3]):
            os.close(end)
        try:
            yield Page(pipes[2], pipes[1])
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(pipes[1])
            os.close(pipes[2])
