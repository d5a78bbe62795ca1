"""Waits for results that other processes compute, polling less often over time, with notices to the user."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meow_lightning.resources.format import format_duration
from meow_lightning.store.artifact import Artifact
from meow_lightning.store.lock_holders import Holder
from meow_lightning.store.store import Store

MAX_POLL_SECONDS = 1.0  # on a shared file system, every attempt is a request to the server
NOTIFY_AFTER = (5.0, 60.0)  # seconds of waiting after which the first notices name the holder
NOTIFY_EVERY = 600.0  # seconds between further notices


@dataclass
class _Wait:
    since: float
    next: float = 0.0
    notices: int = 0
    stopped: bool = False


class LockWaits:
    """Polling of locks that other processes hold, with notices meanwhile.

    Args:
        store: The store of the locked results.
        notify: Called with each notice.
    """

    def __init__(self, *, store: Store, notify: Callable[[str], None]) -> None:
        self._store, self._notify = store, notify
        self._waits: dict[str, _Wait] = {}

    def is_due(self, artifact: Artifact) -> bool:
        """Whether it is time to try the lock of a result again."""
        wait = self._waits.get(artifact.key)
        return wait is None or time.monotonic() >= wait.next

    def acquired(self, artifact: Artifact) -> None:
        """Record that this process acquired the lock."""
        self._waits.pop(artifact.key, None)

    def record_refusal(self, artifact: Artifact) -> bool:
        """Record that another process holds the lock; returns whether this is the first refusal."""
        now = time.monotonic()
        new = artifact.key not in self._waits
        wait = self._waits.setdefault(artifact.key, _Wait(now))
        passed = now - wait.since
        wait.next = now + min(MAX_POLL_SECONDS, passed / 10)
        holder = self._store.holder(artifact)
        stopped = passed >= NOTIFY_AFTER[0] and holder is not None and holder.stopped
        if passed >= _notify_after(wait.notices) or stopped > wait.stopped:
            wait.notices += passed >= _notify_after(wait.notices)
            self._notify(waiting_line(artifact, holder, passed, read_progress(self._store.partial(artifact))))
        wait.stopped = stopped
        return new


def _notify_after(notices: int) -> float:
    """Compute the seconds of waiting after which the n-th notice is due, counted from 0."""
    more = max(0, notices - len(NOTIFY_AFTER) + 1)
    return NOTIFY_AFTER[min(notices, len(NOTIFY_AFTER) - 1)] + more * NOTIFY_EVERY


def waiting_line(artifact: Artifact, holder: Holder | None, passed: float, state: dict[str, Any] | None) -> str:
    """Format which process is waited for, its progress, and what to do if it hangs.

    Args:
        artifact: The awaited result.
        holder: The process that computes it.
        passed: Seconds waited so far.
        state: Its progress, as :func:`read_progress` returns it.
    """
    who = "another process; see status=true" if holder is None else f"{holder.described()}; {holder.remedy()}"
    ago = max(0.0, time.time() - state["time"]) if state else 0.0
    at = f" (at {state['done']} of {state['total']} {state['unit']} {format_duration(ago)} ago)" if state else ""
    return f"{artifact.title}: waiting for {format_duration(passed)}{at} for {who}"


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Read the progress of the stage in a folder, written by ``StageContext.progress``; ``None`` before the first."""
    try:
        progress = json.loads((folder / "progress.json").read_bytes())
        return {
            **progress,
            "time": float(progress["time"]),
            **{name: progress[name] for name in ("done", "total", "unit")},
        }
    except (OSError, ValueError, TypeError, KeyError):
        return None
